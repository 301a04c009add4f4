"""What training and batches need: the same gradients, and padding that nobody sees."""

import copy

import pytest
import torch

from folio.hub.names import to_theirs
from parity.reference import imported, some_tokens, their_model

# Families whose weights lie in memory as they do in files, and gains as ours do
CASES = ["gpt2: plain", "llama: biases", "qwen2: tied, large theta", "qwen3: plain"]


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    theirs, (model, family) = copy.deepcopy(their_model(name)), imported(name)
    ours, tokens = copy.deepcopy(model), some_tokens()
    loss = theirs(tokens, labels=tokens).loss
    loss.backward()
    logprobs = ours(tokens[:, :-1], targets=tokens[:, 1:]).logprobs
    (-logprobs.mean()).backward()
    assert -logprobs.mean().item() == pytest.approx(loss.item(), rel=1e-5)
    gradients = {key: weight.grad for key, weight in ours.named_parameters()}
    found = to_theirs(family.table, ours.config, gradients)
    wanted = {key: weight.grad for key, weight in theirs.named_parameters()}
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        assert (found[key] - gradient).abs().max() < 1e-4 * (1 + gradient.abs().max())


@pytest.mark.parametrize("name", ["llama: plain", "qwen3: windows above"])
@torch.no_grad()
def test_padding_in_front_is_as_invisible_to_us_as_to_them(name):
    ours, _ = imported(name)
    tokens = some_tokens(rows=2, length=12)
    positions = torch.tensor([[-1, -1, -1, *range(9)], [*range(12)]])
    wanted = their_model(name)(
        tokens,
        attention_mask=(positions >= 0).long(),
        position_ids=positions.clamp(min=0),
    ).logits
    found = ours(tokens, positions).logits
    assert (found - wanted)[positions >= 0].abs().max() < 1e-4
