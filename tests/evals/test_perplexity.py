"""Held-out loss: the whole part, the same every time, disturbing nothing."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.tokens import Tokens
from folio.evals.perplexity import mean_loss, perplexity
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.byte import ByteTokenizer

TEXT = "Über den Wolken muß die Freiheit wohl grenzenlos sein. " * 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(
            vocab_size=19, d_model=16, n_heads=2, n_layers=2, max_seq_len=8, dropout=0.3
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def tokens_of(count: int, **facts) -> Tokens:
    generator = np.random.default_rng(3)
    return Tokens.from_ids(generator.integers(19, size=count), vocab_size=19, **facts)


def uniform(vocab_size: int) -> Decoder:
    """A decoder that finds every token equally likely."""
    model = Decoder(ModelConfig(vocab_size=vocab_size, d_model=8, n_heads=2))
    with torch.no_grad():
        model.embedding.weight.zero_()
    return model


def longhand(model: Decoder, tokens: Tokens, length: int) -> float:
    """Each window by itself, each target by itself, in fp64."""
    model.eval()
    ids, losses = tokens[:].tolist(), []
    for start in range(0, len(ids) - 1, length):
        window = ids[start : start + length]  # the last one is shorter, not padded
        with torch.no_grad():
            logits = model(torch.tensor([window])).logits[0].double()
        for place in range(len(window)):
            if start + place + 1 < len(ids):
                target = ids[start + place + 1]
                losses.append(-logits[place].log_softmax(-1)[target].item())
    assert len(losses) == len(ids) - 1
    return sum(losses) / len(losses)


@pytest.mark.parametrize("count", [2, 7, 8, 9, 10, 17, 65, 100])
def test_it_is_the_mean_over_the_whole_part(model, count):
    tokens = tokens_of(count)
    found = perplexity(model, tokens, length=8, batch=3)
    assert found["val_loss"] == pytest.approx(longhand(model, tokens, 8), rel=1e-6)
    assert found["val_perplexity"] == pytest.approx(math.exp(found["val_loss"]))


def test_the_size_of_the_batch_changes_nothing(model):
    tokens = tokens_of(133)
    losses = [
        perplexity(model, tokens, 8, batch)["val_loss"] for batch in (1, 2, 7, 64)
    ]
    assert max(losses) - min(losses) < 1e-6


def test_every_token_counts_even_the_last(model):
    ids = tokens_of(30)[:].tolist()
    before = perplexity(model, Tokens.from_ids(ids, vocab_size=19), 8)["val_loss"]
    ids[-1] = (ids[-1] + 1) % 19
    after = perplexity(model, Tokens.from_ids(ids, vocab_size=19), 8)["val_loss"]
    assert before != after


@pytest.mark.parametrize("training", [True, False])
def test_measuring_disturbs_nothing(model, training):
    model.train(training)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    weights = {name: t.clone() for name, t in model.state_dict().items()}
    first = perplexity(model, tokens_of(50), 8)
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert all(torch.equal(t, weights[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert perplexity(model, tokens_of(50), 8) == first  # no dropout, no chance


def test_the_mode_comes_back_after_an_error(model):
    model.train()
    with pytest.raises(IndexError):
        perplexity(model, Tokens.from_ids([1, 2, 25, 4], vocab_size=30), 8)
    assert model.training


def test_uniform_guesses_cost_the_logarithm_of_the_vocabulary():
    tokenizer = ByteTokenizer()
    ids = [*tokenizer.encode(TEXT), tokenizer.end_of_text]
    tokens = Tokens.from_ids(
        ids, vocab_size=tokenizer.vocab_size, text_bytes=len(TEXT.encode())
    )
    found = perplexity(uniform(tokenizer.vocab_size), tokens, 16)
    assert found["val_loss"] == pytest.approx(math.log(263), rel=1e-6)
    assert found["val_perplexity"] == pytest.approx(263, rel=1e-5)
    # As many targets as bytes: the first byte is none, the end of the text is one.
    assert found["val_bits_per_byte"] == pytest.approx(math.log2(263), abs=1e-6)


def test_bits_per_byte_do_not_depend_on_the_tokenizer():
    """Guessing pairs of letters costs what guessing each letter does."""
    letters = [random.Random(0).randrange(4) for _ in range(201)]
    pairs = [0] + [4 * a + b for a, b in zip(letters[1::2], letters[2::2], strict=True)]
    single = Tokens.from_ids(letters, vocab_size=4, text_bytes=200)
    double = Tokens.from_ids(pairs, vocab_size=16, text_bytes=200)
    for vocab_size, tokens in ((4, single), (16, double)):
        found = perplexity(uniform(vocab_size), tokens, 16)
        assert found["val_bits_per_byte"] == pytest.approx(2.0, abs=1e-6)


def test_without_bytes_there_are_no_bits_per_byte(model):
    assert set(perplexity(model, tokens_of(20), 8)) == {"val_loss", "val_perplexity"}


def test_a_hopeless_model_has_a_finite_perplexity():
    class Hopeless(nn.Linear):
        def forward(self, tokens, targets):
            return type("Output", (), {"logprobs": torch.full(tokens.shape, -1e4)})

    found = perplexity(Hopeless(1, 1), tokens_of(20), 8)
    assert found["val_loss"] == pytest.approx(1e4)
    assert math.isfinite(found["val_perplexity"])


def test_half_precision_is_summed_in_fp64(model):
    def autocast():
        return torch.autocast("cpu", torch.bfloat16)

    tokens = tokens_of(100)
    exact = perplexity(model, tokens, 8)["val_loss"]
    found = perplexity(model, tokens, 8, autocast=autocast)["val_loss"]
    assert found == pytest.approx(exact, rel=0.02)
    assert found != exact


def test_too_little_text_is_named(model):
    with pytest.raises(UserError, match="1 tokens"):
        perplexity(model, Tokens.from_ids([3], vocab_size=19), 8)


def test_nothing_with_weight_is_named(model):
    zeros = torch.zeros(1, 4, dtype=torch.long)
    batch = Batch(0.0, inputs=zeros, targets=zeros, weights=torch.zeros(1, 4))
    with pytest.raises(UserError, match="nothing to measure"):
        mean_loss(model, [batch])
