"""How often two models guess the same, against counting by hand."""

import pytest
import torch

from folio.data.tokens import Tokens
from folio.evals.agreement import agreement
from helpers import VOCABULARY, tiny_model

IDS = [(i * i + i // 7) % VOCABULARY for i in range(50)]
TOKENS = Tokens.from_ids(IDS, vocab_size=VOCABULARY)


def listening(seed: int):
    """A model whose guesses hang on what came before."""
    model = tiny_model(tie_embeddings=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


@pytest.mark.parametrize("length", [4, 16])
def test_same_first_guesses_are_counted(length):
    one, other = listening(1), listening(1)
    with torch.no_grad():
        other.blocks[1].attention.query.weight.neg_()
    same = 0
    for start in range(0, 49, length):  # windows of targets, the last shorter
        inputs = torch.tensor([IDS[start : min(start + length, 49)]])
        guesses = [model(inputs).logits.argmax(-1) for model in (one, other)]
        same += int((guesses[0] == guesses[1]).sum())
    assert 10 < same < 45
    assert agreement(one, other, TOKENS, length, batch=2) == same / 49
    assert agreement(one, one, TOKENS, length) == 1


def test_few_windows_at_a_time_and_no_gradients():
    model, rows = listening(1), []
    model.register_forward_pre_hook(
        lambda module, inputs: rows.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    agreement(model, model, TOKENS, 4, batch=5)
    assert rows == 2 * [(5, False)] * 2 + 2 * [(2, False)] + 2 * [(1, False)]
