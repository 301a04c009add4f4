"""Log-probabilities of a large vocabulary: the same numbers in less memory."""

import pytest
import torch

from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.heads import LOGITS_AT_ONCE, chunked_logprobs, token_logprobs

VOCABULARY, WIDTH, ROWS, LENGTH = 3000, 8, 3, 50


def parts(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, targets, and the matrix of a head."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, LENGTH, WIDTH, generator=generator, dtype=dtype)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=dtype)
    targets = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    return hidden.requires_grad_(), targets, head.requires_grad_()


@pytest.mark.parametrize("tokens_at_once", [7, 64, 149, 150, 1000])
def test_values_and_gradients_are_those_of_all_logits_at_once(tokens_at_once):
    results = []
    for at_once in (tokens_at_once * VOCABULARY, None):
        hidden, targets, head = parts()

        def read(x, head=head):
            return 30 * torch.tanh(x @ head.T / 30)

        if at_once is None:
            found = token_logprobs(read(hidden), targets)
        else:
            found = chunked_logprobs(read, hidden, targets, VOCABULARY, at_once)
        weights = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) / 100
        (found * weights).sum().backward()
        results.append((found.detach(), hidden.grad, head.grad))
    for chunked, whole in zip(*results, strict=True):
        assert torch.allclose(chunked, whole, atol=1e-10)


def logits_held(at_once: int) -> tuple[int, int]:
    """(the most logits made by one read, numbers kept for the gradient)."""
    hidden, targets, head = parts(torch.float32)
    largest, kept = 0, {}

    def read(x):
        nonlocal largest
        logits = x @ head.T
        largest = max(largest, logits.numel())
        return logits

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = chunked_logprobs(read, hidden, targets, VOCABULARY, at_once)
    held = sum(kept.values()) - head.numel()
    found.sum().backward()
    return largest, held


def test_neither_forward_nor_gradient_ever_holds_all_logits():
    everything = ROWS * LENGTH * VOCABULARY
    largest, held = logits_held(at_once=everything)
    assert largest == everything
    assert held >= everything
    largest, held = logits_held(at_once=10 * VOCABULARY)
    assert largest == 10 * VOCABULARY  # in the gradient too: read is counted there
    assert held < everything / 50


def test_a_decoder_with_a_large_vocabulary_cuts_and_agrees_with_its_logits():
    torch.manual_seed(0)
    config = {"vocab_size": 40_000, "d_model": 8, "n_layers": 1, "n_heads": 1}
    model = Decoder(ModelConfig(**config, logit_softcap=5.0))
    tokens = torch.randint(40_000, (1, 500))
    assert tokens.numel() * 40_000 > LOGITS_AT_ONCE
    reads = []
    handle = model.head.register_forward_hook(
        lambda module, inputs, output: reads.append(output.numel())
    )
    found = model(tokens, targets=tokens).logprobs
    handle.remove()
    assert len(reads) == 2
    assert max(reads) <= LOGITS_AT_ONCE
    with torch.no_grad():
        wanted = token_logprobs(model(tokens).logits, tokens)
        quiet = model(tokens, targets=tokens).logprobs
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(quiet, found)


def test_chunks_obey_autocast():
    hidden, targets, head = parts(torch.float32)
    kinds = []

    def read(x):
        logits = torch.nn.functional.linear(x, head)
        kinds.append(logits.dtype)
        return logits

    with torch.autocast("cpu", torch.bfloat16):
        found = chunked_logprobs(read, hidden, targets, VOCABULARY, 10 * VOCABULARY)
    found.sum().backward()
    assert set(kinds) == {torch.bfloat16}  # computed again as it was the first time
    assert len(kinds) == 30
    assert found.dtype == torch.float32


def test_asked_only_somewhere_the_rest_is_zero_and_without_gradient():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=50, d_model=8, n_layers=1, n_heads=1))
    tokens = torch.randint(50, (2, 9))
    where = torch.rand(2, 9) < 0.5
    everywhere = model(tokens, targets=tokens).logprobs
    found = model(tokens, targets=tokens, where=where).logprobs
    torch.testing.assert_close(found[where], everywhere[where])
    assert not found[~where].any()
    model.zero_grad()
    (everywhere * where).sum().backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    found.sum().backward()
    for one, other in zip(wanted, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)
    none = model(tokens, targets=tokens, where=torch.zeros_like(where), entropy=True)
    assert not none.logprobs.any()
    assert not none.entropy.any()


def test_a_temperature_is_that_of_the_distribution_sampled_from():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=50, d_model=8, n_layers=1, n_heads=1))
    tokens = torch.randint(50, (2, 9))
    found = model(tokens, targets=tokens, temperature=0.5, entropy=True)
    cooled = model(tokens).logits / 0.5
    torch.testing.assert_close(found.logprobs, token_logprobs(cooled, tokens))
    chances = cooled.softmax(-1)
    wanted = -(chances * chances.log()).sum(-1)
    torch.testing.assert_close(found.entropy, wanted)
