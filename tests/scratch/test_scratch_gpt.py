"""The GPT in NumPy is the Decoder, number for number, and it learns."""

import numpy as np
import pytest
import torch

from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.optim.adamw import adamw
from folio.scratch.autograd import cross_entropy
from folio.scratch.gpt import GPT, AdamW, Shape, batches, sample, train

SHAPE = Shape(vocab_size=11, max_seq_len=8, d_model=12, n_layers=2, n_heads=3)
TEXT = "the cat sat on the mat and the dog sat on the cat. "


def decoder_like(gpt: GPT) -> Decoder:
    """The package's decoder with the same weights, in fp64."""
    shape = gpt.shape
    config = ModelConfig(
        vocab_size=shape.vocab_size,
        max_seq_len=shape.max_seq_len,
        d_model=shape.d_model,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        positions="learned",
        norm="layernorm",
        mlp="gelu_tanh",
    )
    model = Decoder(config).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(theirs(name, gpt)))
    return model


def theirs(name: str, gpt: GPT) -> np.ndarray:
    """Which of the scratch GPT's arrays a parameter of the decoder is."""
    short = name.removeprefix("blocks.").removesuffix(".weight").removesuffix(".gain")
    short = short.replace(".table", "")
    parts = short.replace(".attention.", ".").replace(".mlp.", ".")
    array = gpt.weights[parts].data
    is_linear = any(parts.endswith(e) for e in ("query", "key", "value", "out"))
    is_linear |= parts.endswith(("up", "down"))
    return array.T if is_linear else array


def test_scores_and_gradients_are_the_decoders():
    gpt = GPT(SHAPE, seed=3)
    for weight in gpt.weights.values():  # away from the start, where much is alike
        weight.data += np.random.default_rng(1).normal(0, 0.3, weight.shape)
    model = decoder_like(gpt)
    chance = np.random.default_rng(0)
    tokens, targets = chance.integers(0, 11, (2, 3, 8))
    scores = gpt(tokens)
    logits = model(torch.tensor(tokens)).logits
    np.testing.assert_allclose(scores.data, logits.detach(), rtol=1e-9)
    loss = cross_entropy(scores, targets)
    loss.backward()
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(targets).flatten()
    ).backward()
    for name, parameter in model.named_parameters():
        ours = parameter.grad.numpy()
        like = theirs(name, _gradients(gpt))
        np.testing.assert_allclose(ours, like, rtol=1e-7, atol=1e-10, err_msg=name)


def _gradients(gpt: GPT) -> GPT:
    """The same table with gradients in the place of weights."""
    twin = GPT(gpt.shape)
    for name, weight in gpt.weights.items():
        twin.weights[name].data = weight.grad
    return twin


def test_its_adamw_is_pytorchs():
    gpt = GPT(SHAPE, seed=1)
    model = decoder_like(gpt)
    ours, other = AdamW(gpt.weights, 0.01), adamw(model, 0.01)
    stream = batches(np.arange(100) % 11, 2, 8)
    for _ in range(3):
        tokens, targets = next(stream)
        cross_entropy(gpt(tokens), targets).backward()
        logits = model(torch.tensor(tokens)).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.tensor(targets).flatten()
        )
        other.zero_grad()
        loss.backward()
        ours.step()
        other.step()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            parameter.detach(), theirs(name, gpt), rtol=1e-5, atol=1e-7, err_msg=name
        )


def test_it_learns_a_text_by_heart_and_writes_it():
    characters = sorted(set(TEXT))
    ids = np.array([characters.index(c) for c in TEXT * 4])
    shape = Shape(len(characters), max_seq_len=16, d_model=24, n_layers=1, n_heads=2)
    model = GPT(shape)
    losses = list(train(model, ids, 150, rows=8, lr=1e-2))
    assert losses[0] == pytest.approx(np.log(len(characters)), rel=0.1)
    assert np.mean(losses[-10:]) < 0.35
    written = sample(model, ids[:8].tolist(), 40, temperature=0.1)
    text = "".join(characters[i] for i in written)
    words = text.rsplit(" ", 1)[0].replace(".", " ").split()
    assert set(words) <= set(TEXT.replace(".", " ").split())


def test_targets_are_the_text_moved_on_by_one():
    tokens, targets = next(batches(np.arange(50), 4, 6))
    np.testing.assert_array_equal(targets, tokens + 1)
