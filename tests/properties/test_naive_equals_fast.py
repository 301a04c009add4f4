"""Promise: what is written to be read equals what is run."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.model.attend import attend
from folio.model.config import Experts, ModelConfig
from folio.model.heads import token_logprobs
from folio.model.mask import Mask, causal_mask
from folio.model.moe import MixtureOfExperts, mix_reference
from folio.model.norm import layer_norm, rms_norm
from folio.optim.adamw import adamw_step

many = settings(derandomize=True, deadline=None, database=None, max_examples=100)
seeds = st.integers(0, 2**30)
sizes = st.integers(1, 9)


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@st.composite
def questions(draw):
    """Queries, keys, values and a mask of any shapes, and options of `attend`."""
    heads, groups = draw(st.sampled_from([(1, 1), (4, 1), (4, 2), (4, 4), (6, 2)]))
    batch, queries, keys, width = (draw(sizes) for _ in range(4))
    generator = torch.Generator().manual_seed(draw(seeds))
    q = normal(generator, batch, heads, queries, width)
    k = normal(generator, batch, groups, keys, width)
    v = normal(generator, batch, groups, keys, draw(sizes))
    window, sinks = draw(st.none() | st.integers(1, 6)), draw(st.integers(0, 2))
    # Any positions at all: out of order, repeated, empty slots, padded queries.
    at = torch.randint(-1, 9, (batch, queries), generator=generator)
    slots = torch.randint(-1, 9, (batch, keys), generator=generator)
    documents = None
    if draw(st.booleans()):
        documents = (at.clamp(min=0) % 2, slots.clamp(min=0) % 2)
    options = {
        "scale": draw(st.none() | st.floats(0.1, 2.0)),
        "softcap": draw(st.none() | st.floats(0.5, 5.0)),
        "sink_q": normal(generator, *q.shape) if draw(st.booleans()) else None,
    }
    return q, k, v, Mask(at, slots, window, sinks, documents), options


def answers(q, k, v, mask, path, **options) -> list[torch.Tensor]:
    """What a path gives, and its gradients."""
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    if options.get("sink_q") is not None:
        options["sink_q"] = options["sink_q"].clone().requires_grad_()
        inputs.append(options["sink_q"])
    y = attend(*inputs[:3], mask, path=path, **options)
    y.square().sum().backward()
    return [y.detach(), *(t.grad for t in inputs)]


@settings(many, max_examples=200)
@given(questions())
def test_attention_and_its_gradients(question):
    q, k, v, mask, options = question
    wanted = answers(q, k, v, mask, "reference", **options)
    for path in ("explicit", "fused", None):
        if path == "fused" and options["softcap"] is not None:
            continue
        found = answers(q, k, v, mask, path, **options)
        for fast, naive in zip(found, wanted, strict=True):
            assert torch.allclose(fast, naive, rtol=0, atol=1e-12)


@settings(many, max_examples=6)
@given(questions())
@pytest.mark.filterwarnings("ignore:flex_attention called without")
@torch.no_grad()
def test_flex_attention(question):
    """Its readable form; the compiled one needs a GPU."""
    q, k, v, mask, options = question
    wanted = attend(q, k, v, mask, path="reference", **options)
    found = attend(q, k, v, mask, path="flex", **options)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


@many
@given(seeds, sizes, sizes, st.sampled_from(["explicit", "fused", None]))
def test_causal_attention(seed, length, width, path):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (normal(generator, 2, 2, length, width) for _ in range(3))
    wanted = answers(q, k, v, causal_mask(length), "reference")
    found = answers(q, k, v, causal_mask(length), path)
    for fast, naive in zip(found, wanted, strict=True):
        assert torch.allclose(fast, naive, rtol=0, atol=1e-12)


@many
@given(
    seeds,
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(["swiglu", "geglu", "gelu", "relu2"]),
    st.sampled_from(["softmax", "sigmoid"]),
    st.booleans(),
    st.booleans(),
)
def test_experts_and_their_gradients(
    seed, tokens, count, active, mlp, router, renormalize, one_kernel
):
    """Sorted by expert = every expert for every token; some experts get none."""
    options = Experts(count, min(active, count), 0, 8, router, renormalize)
    config = ModelConfig(d_model=8, n_heads=1, mlp=mlp, experts=options)
    part, generator = MixtureOfExperts(config), torch.Generator().manual_seed(seed)
    for tensor in part.parameters():
        torch.nn.init.normal_(tensor, std=0.5, generator=generator)
    # The kernel knows fp32, whose rows of 32 bytes suit it, and the loop fp64
    part = part.to(torch.float32 if one_kernel else torch.float64)
    x = normal(generator, tokens, 8).to(part.experts.up.dtype)
    results = []
    for mix in (part.experts, partial(mix_reference, part.experts)):
        part.zero_grad()
        given = x.clone().requires_grad_()
        y = mix(given, part.router(given))
        y.square().sum().backward()
        results.append([y.detach(), given.grad, *(p.grad for p in part.parameters())])
    tolerance = 1e-4 if one_kernel else 1e-11
    for fast, naive in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, rtol=tolerance, atol=tolerance)


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
