"""Endless reading: exact however far it has gone, in constant memory."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch

from folio.config import UserError
from folio.infer.cache import RollingCache
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.infer.stream import Stream, is_endless, move_back, score, streaming
from folio.model.config import ModelConfig, RopeScaling
from folio.model.decoder import Decoder

VOCABULARY = 29


def model_of(seed: int = 0, **changes) -> Decoder:
    """Random weights, large enough that attention is far from even."""
    fields = {
        "vocab_size": VOCABULARY,
        "max_seq_len": 16,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 8,
        "tie_embeddings": False,
    }
    model = Decoder(ModelConfig(**(fields | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()


def ids_of(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (length,), generator=generator).tolist()


YARN = RopeScaling("yarn", factor=4.0, original_len=16)
KINDS = (
    {"positions": "rotary"},
    {"positions": "none"},
    {"rope_fraction": 0.5},
    {"rope_theta": 10.0},
    {"rope_scaling": YARN},
    {"rope_scaling": RopeScaling("linear", factor=2.0)},
)


# The model


@pytest.mark.parametrize("tied", [True, False])
def test_the_same_weights_in_windowed_layers(tied):
    model = model_of(tie_embeddings=tied)
    windowed = streaming(model, window=5, sinks=2)
    assert windowed.config == replace(model.config, window=5, sinks=2)
    assert model.config.window is None
    assert model.blocks[0].attention.window is None
    for mine, theirs in zip(windowed.parameters(), model.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
    assert len(list(windowed.parameters())) == len(list(model.parameters()))
    trained_so = Decoder(windowed.config).eval()
    trained_so.load_state_dict(model.state_dict())
    ids = torch.tensor([ids_of(40)])
    assert torch.equal(windowed(ids).logits, trained_so(ids).logits)
    assert not torch.allclose(windowed(ids).logits, model(ids).logits, atol=0.1)


def test_by_default_it_sees_as_much_as_in_training():
    def seen(windowed) -> tuple[int | None, int]:
        return windowed.config.window, windowed.config.sinks

    assert seen(streaming(model_of())) == (12, 4)
    assert seen(streaming(model_of(), sinks=1)) == (15, 1)
    assert seen(streaming(model_of(), window=3)) == (3, 4)
    own = model_of(window=6, sinks=1, attention_pattern="wf")
    assert seen(streaming(own)) == (6, 1)
    assert streaming(own).config.layer_windows == (6, 6)
    assert is_endless(streaming(own).config)


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"positions": "learned"}, {}, "positions = 'learned' count.*max_seq_len = 16"),
        ({"positions": "sinusoidal"}, {}, "positions = 'sinusoidal' count"),
        ({}, {"window": 14}, "window = 14 and sinks = 4 are more than .* = 16"),
        ({}, {"sinks": 16}, "window = 1 and sinks = 16 are more than"),
        ({}, {"window": 0}, "window = 0: must be at least 1"),
        ({}, {"sinks": -1}, "sinks = -1: must be 0 or more"),
        ({"window": 6}, {"window": 7}, "window = 7: .*own windowed layers see 6"),
    ],
)
def test_what_can_not_be_streamed_is_refused_in_one_line(changes, options, words):
    with pytest.raises(UserError, match=words) as error:
        streaming(model_of(**changes), **options)
    assert "\n" not in str(error.value)


def test_a_model_that_sees_everything_has_no_stream():
    for changes in ({}, {"window": 4, "attention_pattern": "wf"}):
        with pytest.raises(UserError, match="each layer needs a window"):
            Stream(model_of(**changes))


# Reading


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (5, 0), (5, 3), (12, 4)])
@torch.no_grad()
def test_a_stream_is_the_text_read_at_once(changes, window, sinks):
    """Positions of a stream are counted anew dozens of times, those of a text never."""
    model = streaming(model_of(**changes), window, sinks)
    ids = ids_of(90)
    wanted = model(torch.tensor([ids])).logits[0]
    for sizes in ([1] * 90, [64, 1, 1, 24], [7] * 12 + [6]):
        stream, found = Stream(model), []
        for size in sizes:
            start = len(found)
            states = stream.hidden(ids[start : start + size])[0]
            found += model.read(states)
            assert stream.position <= max(sinks + 2 * window, size) + size
        assert torch.allclose(torch.stack(found), wanted, atol=5e-5)


@torch.no_grad()
def test_long_pieces_are_cut():
    model, ids = streaming(model_of()), ids_of(100)
    lengths, hidden = [], model.hidden
    model.hidden = lambda tokens, *more: (
        lengths.append(tokens.shape[1]) or hidden(tokens, *more)
    )
    found = Stream(model, chunk=32).read(ids)
    assert lengths == [32, 32, 32, 4]
    assert torch.allclose(found, model(torch.tensor([ids])).logits[:, -1], atol=2e-5)


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("sinks", [0, 3])
@torch.no_grad()
def test_ten_million_positions_on_nothing_has_changed(changes, sinks):
    """A window of keys as it would lie there, carried on by both."""
    model, ids = streaming(model_of(**changes), 6, sinks), ids_of(60)
    near, far = Stream(model), Stream(model)
    for stream in (near, far):
        stream.read(ids[:20])
    carry(far, 6 * 1_666_667)
    assert far.position > 10_000_000
    wanted = [near.read([token]) for token in ids[20:]]
    found = [far.read([token]) for token in ids[20:]]
    assert far.position < 100
    assert torch.allclose(torch.stack(found), torch.stack(wanted), atol=2e-5)


@torch.no_grad()
def test_without_counting_anew_fp32_goes_astray():
    """What the test above would find if nothing were done."""
    model, ids = streaming(model_of(rope_theta=10.0), 6, 3), ids_of(60)
    near, far = Stream(model), Stream(model)
    for stream in (near, far):
        stream.read(ids[:20])
    carry(far, 6 * 1_666_667)
    far._count_anew = lambda: None
    wanted = [near.read([token]) for token in ids[20:]]
    found = [far.read([token]) for token in ids[20:]]
    assert (torch.stack(found) - torch.stack(wanted)).abs().max() > 0.1


def carry(stream: Stream, count: int) -> None:
    """Put all of a stream but its sinks `count` positions further on."""
    move_back(stream.caches, stream.model.rotary, -count)
    stream.position += count


@torch.no_grad()
def test_keys_are_turned_back_and_sinks_stay():
    model = streaming(model_of(), 4, 2)
    stream = Stream(model)
    stream.read(ids_of(15))
    cache = stream.caches[0]
    before, places = cache.k.clone(), cache.ring.positions.clone()
    move_back(stream.caches, model.rotary, 4)
    assert torch.equal(cache.k[:, :, :2], before[:, :, :2])
    assert not torch.allclose(cache.k[:, :, 2:6], before[:, :, 2:6], atol=0.1)
    assert cache.ring.positions.tolist() == [[0, 1, 10, 7, 8, 9, -1]]
    assert places.tolist() == [[0, 1, 14, 11, 12, 13, -1]]
    move_back(stream.caches, model.rotary, -4)
    assert torch.allclose(cache.k, before, atol=1e-6)


def test_a_hundred_turns_do_not_wear_the_keys_out():
    model = streaming(model_of(), 4, 2)
    stream = Stream(model)
    with torch.no_grad():
        stream.read(ids_of(15))
        before = stream.caches[0].k.clone()
        for count in (4, -4) * 50:
            move_back(stream.caches, model.rotary, count)
    assert torch.allclose(stream.caches[0].k, before, atol=1e-5)


@torch.no_grad()
def test_half_precision_streams():
    model = streaming(model_of()).to(torch.bfloat16)
    stream, ids = Stream(model), ids_of(90)
    found = torch.cat([stream.hidden([token])[0] for token in ids])
    wanted = model.hidden(torch.tensor([ids]))[0][0]
    assert stream.caches[0].k.dtype == torch.bfloat16
    assert (found - wanted).abs().mean() < 0.05 * wanted.abs().mean()


# Memory


@torch.no_grad()
def test_nothing_grows():
    stream = Stream(streaming(model_of()), chunk=64)
    caches = stream.caches
    assert all(type(cache) is RollingCache for cache in caches)
    stream.read(ids_of(30))
    before = [(c.k.data_ptr(), c.k.shape, c.ring.positions.shape) for c in caches]
    stream.read(ids_of(3000))
    stream.read([1])
    after = [(c.k.data_ptr(), c.k.shape, c.ring.positions.shape) for c in caches]
    assert before == after
    assert stream.position < 100


def test_generating_on_and_on():
    model = streaming(model_of())
    found = list(islice(generate(model, [1, 2, 3], None, sampling=GREEDY), 100))
    ids = [1, 2, 3, *found]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    assert logits.argmax(-1)[2:-1].tolist() == found


# Scoring


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_scores_are_the_log_probabilities_of_the_text(chunk):
    model, ids = streaming(model_of(), 6, 2), ids_of(100)
    found = score(model, ids, chunk)
    table = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    wanted = table[torch.arange(99), ids[1:]]
    assert found.shape == (99,)
    assert torch.allclose(found, wanted, atol=5e-5)
    assert not found.requires_grad


def test_within_the_window_a_stream_is_plain_attention():
    model, ids = model_of(), ids_of(12)
    windowed = score(streaming(model), ids)
    targets = torch.tensor([ids[1:]])
    plain = model(torch.tensor([ids[:-1]]), targets=targets).logprobs[0]
    assert torch.allclose(windowed, plain, atol=1e-5)
    assert math.isfinite(windowed.sum())
