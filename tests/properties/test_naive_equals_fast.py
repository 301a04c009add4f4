"""Promise: what is written to be read equals what is run."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.model.attend import attend, attend_reference
from folio.model.heads import token_logprobs
from folio.model.mask import visible
from folio.model.norm import layer_norm, rms_norm
from folio.optim.adamw import adamw_step

many = settings(derandomize=True, deadline=None, database=None, max_examples=100)
seeds = st.integers(0, 2**30)
sizes = st.integers(1, 9)


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@many
@given(seeds, sizes, sizes, sizes, st.sampled_from([1, 2, 4]), sizes)
def test_attention_and_its_gradients(seed, batch, queries, keys, heads, width):
    generator = torch.Generator().manual_seed(seed)
    q = normal(generator, batch, heads, queries, width)
    k, v = (normal(generator, batch, heads, keys, width) for _ in range(2))
    # Any positions at all: out of order, repeated, empty slots, padded queries.
    at = torch.randint(-1, 9, (batch, queries), generator=generator)
    slots = torch.randint(-1, 9, (batch, keys), generator=generator)
    mask = visible(at, slots)[:, None]
    results = []
    for attention in (attend, attend_reference):
        inputs = [t.clone().requires_grad_() for t in (q, k, v)]
        y = attention(*inputs, mask)
        y.square().sum().backward()
        results.append([y.detach(), *(t.grad for t in inputs)])
    for fast, naive in zip(*results, strict=True):
        assert torch.allclose(fast, naive, atol=1e-10)


@many
@given(seeds, sizes, sizes)
def test_causal_attention(seed, length, width):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (normal(generator, 2, 2, length, width) for _ in range(3))
    at = torch.arange(length)[None]
    wanted = attend_reference(q, k, v, visible(at, at)[:, None])
    assert torch.allclose(attend(q, k, v, None), wanted, atol=1e-10)


@many
@given(seeds, sizes, st.integers(2, 33), st.floats(1e-6, 1.0), st.floats(-50, 50))
def test_norms(seed, rows, width, eps, offset):
    generator = torch.Generator().manual_seed(seed)
    x = normal(generator, rows, width) * 3 + offset
    gain, bias = normal(generator, width), normal(generator, width)
    fast = F.layer_norm(x, (width,), gain, bias, eps)
    assert torch.allclose(layer_norm(x, gain, bias, eps), fast, atol=1e-9)
    fast = F.rms_norm(x, (width,), gain, eps)
    assert torch.allclose(rms_norm(x, gain, eps), fast, atol=1e-9)


@many
@given(seeds, sizes, sizes, st.integers(1, 40))
def test_log_probabilities(seed, batch, length, vocabulary):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * normal(generator, batch, length, vocabulary).float()
    targets = torch.randint(vocabulary, (batch, length), generator=generator)
    naive = logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    assert torch.allclose(token_logprobs(logits, targets), naive, atol=1e-5)


@many
@given(
    seeds,
    st.floats(1e-5, 1.0),
    st.floats(0, 0.999),
    st.floats(0, 0.999),
    st.floats(0, 1),
)
def test_adamw(seed, lr, beta1, beta2, weight_decay):
    generator = torch.Generator().manual_seed(seed)
    ours = normal(generator, 5)
    theirs = torch.nn.Parameter(ours.clone())
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    fixed = {"lr": lr, "betas": (beta1, beta2), "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW([theirs], fused=True, eps=1e-8, **fixed)
    for step in range(1, 6):
        theirs.grad = normal(generator, 5)
        adamw_step(ours, theirs.grad, mean, square, step, **fixed)
        optimizer.step()
    assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)
