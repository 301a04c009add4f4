"""How often two models guess the same, against counting by hand."""

import torch

from folio.data.tokens import Tokens
from folio.evals.agreement import agreement
from helpers import VOCABULARY, tiny_model


def test_same_first_guesses_are_counted():
    ids = [(i * i + i // 7) % VOCABULARY for i in range(50)]
    tokens = Tokens.from_ids(ids, vocab_size=VOCABULARY)
    one, other = (tiny_model(tie_embeddings=False).eval() for _ in range(2))
    with torch.no_grad():
        other.head.weight[:9].neg_()
    same = 0
    for start in range(0, 49, 16):  # windows of 16 targets, the last shorter
        inputs = torch.tensor([ids[start : min(start + 16, 49)]])
        guesses = [model(inputs).logits.argmax(-1) for model in (one, other)]
        same += int((guesses[0] == guesses[1]).sum())
    assert 0 < same < 49
    assert agreement(one, other, tokens, 16, batch=2) == same / 49
    assert agreement(one, one, tokens, 16) == 1
