"""The first thing to see a model do: learn one sentence by heart."""

import pytest
import torch

from folio.data.text import next_token_batch
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.config import gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw

SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.mark.parametrize("preset", [gpt2_like, llama_like])
def test_a_tiny_decoder_learns_a_sentence_by_heart(preset):
    letters = sorted(set(SENTENCE))
    ids = [letters.index(letter) for letter in SENTENCE]
    torch.manual_seed(0)
    model = Decoder(
        preset(
            vocab_size=len(letters), max_seq_len=64, d_model=48, n_layers=2, n_heads=2
        )
    )
    optimizer = adamw(model, lr=3e-3, weight_decay=0.0)
    batch = next_token_batch(torch.tensor([ids]))
    losses = []
    for _ in range(120):
        loss, _ = next_token(model, batch)
        losses.append(loss.item() / batch.denominator)
        optimizer.zero_grad()
        (loss / batch.denominator).backward()
        optimizer.step()
    assert losses[0] > 3.0  # a guess among 29 letters costs ln 29 = 3.4 nats
    assert losses[-1] < 0.1
    written = generate(model, ids[:1], len(ids) - 1, sampling=GREEDY)
    assert [ids[0], *written] == ids
