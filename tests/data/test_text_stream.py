"""Training windows in an order that is pure; evaluation windows, each once."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data import TextStream, Tokens, validation_windows, write_shards
from folio.data.text import _LOOKAHEAD
from folio.text.byte import ByteTokenizer

ORDERS = ["epoch", "random"]


def counting(size):
    """Tokens whose ids are their own places."""
    return Tokens.from_ids(range(size))


def take(stream, count):
    return list(itertools.islice(stream, count))


def first_ids(batches):
    return [int(start) for batch in batches for start in batch.inputs[:, 0]]


@pytest.mark.parametrize("order", ORDERS)
def test_targets_are_the_next_tokens(order):
    for batch in take(TextStream(counting(500), batch=3, length=7, order=order), 50):
        assert (
            batch.inputs.shape == batch.targets.shape == batch.weights.shape == (3, 7)
        )
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert torch.equal(batch.targets, batch.inputs + 1)
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert bool((batch.weights == 1).all())
        assert batch.denominator == 21.0
        assert batch.inputs.is_contiguous()
        assert batch.targets.is_contiguous()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    world=st.integers(1, 5),
    rows=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    size=st.integers(10, 400),
    order=st.sampled_from(ORDERS),
)
def test_any_number_of_ranks_reads_the_same_global_order(
    world, rows, seed, size, order
):
    options = {"length": 5, "seed": seed, "order": order}
    alone = TextStream(counting(size), batch=world * rows, **options)
    ranks = [
        TextStream(counting(size), batch=rows, rank=r, world=world, **options)
        for r in range(world)
    ]
    for _ in range(6):
        together = torch.cat([next(stream).inputs for stream in ranks])
        assert torch.equal(together, next(alone).inputs)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(size=st.integers(5, 300), length=st.integers(1, 20), seed=st.integers(0, 999))
def test_an_epoch_sees_each_token_at_most_once_and_nearly_all(size, length, seed):
    if size < length + 1:
        return
    stream = TextStream(counting(size), batch=1, length=length, seed=seed)
    for _ in range(3):
        epoch = take(stream, stream.windows_per_epoch)
        targets = [int(t) for batch in epoch for t in batch.targets.flatten()]
        assert len(set(targets)) == len(targets)
        assert len(targets) >= min(size - 2 * length, length)


def test_every_token_comes_up_over_the_epochs_and_offsets_vary():
    stream = TextStream(counting(100), batch=1, length=8)
    seen = set()
    offsets = set()
    for _ in range(60):
        epoch = first_ids(take(stream, stream.windows_per_epoch))
        offsets.add(min(epoch))
        seen.update(start + k for start in epoch for k in range(9))
    assert seen == set(range(100))
    assert len(offsets) > 8


def test_the_shortest_text_and_an_exact_fit():
    only = TextStream(counting(5), batch=2, length=4)
    assert next(only).inputs.tolist() == [[0, 1, 2, 3]] * 2
    draws = first_ids(take(TextStream(counting(6), batch=4, length=4), 20))
    assert set(draws) == {0, 1}


def test_random_order_reaches_both_ends_evenly():
    stream = TextStream(counting(20), batch=50, length=4, order="random")
    counts = np.bincount(first_ids(take(stream, 320)), minlength=16)
    assert len(counts) == 16
    assert counts.min() > 850
    assert counts.max() < 1150


def test_seeds_and_epochs_differ():
    def epochs(seed):
        stream = TextStream(counting(2000), batch=1, length=4, seed=seed)
        count = stream.windows_per_epoch
        return first_ids(take(stream, count)), first_ids(take(stream, count))

    one, two = epochs(0)
    other, _ = epochs(1)
    assert one != two
    assert one != other
    assert epochs(0) == (one, two)


@pytest.mark.parametrize("order", ORDERS)
def test_resumed_equals_never_stopped_at_every_step(order):
    def fresh(batch=3):
        return TextStream(counting(90), batch=batch, length=4, seed=2, order=order)

    whole = take(fresh(), 40)
    for step in range(40):
        first = fresh()
        take(first, step)
        second = fresh()
        take(second, 5)  # wherever it stood before
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert torch.equal(next(second).inputs, whole[step].inputs)


def test_resume_beyond_the_lookahead_and_on_other_numbers_of_ranks():
    def stream(batch, rank=0, world=1):
        return TextStream(counting(9000), batch=batch, length=2, rank=rank, world=world)

    alone = stream(8)
    rounds = _LOOKAHEAD // 8 - 1
    take(alone, rounds)
    ranks = [stream(2, r, 4) for r in range(4)]
    for rank in ranks:
        rank.load_state_dict(alone.state_dict())
    for _ in range(4):
        together = torch.cat([next(rank).inputs for rank in ranks])
        assert torch.equal(together, next(alone).inputs)


def test_the_order_worked_out_ahead_is_the_order_itself():
    stream = TextStream(counting(9000), batch=7, length=3)
    batches = take(stream, 2 * _LOOKAHEAD // 7 + 5)
    places = np.arange(7 * len(batches))
    assert first_ids(batches) == stream.starts(places).tolist()


def test_state_is_of_one_text_length_seed_and_order():
    state = TextStream(counting(50), batch=2, length=4).state_dict()
    others = {
        "tokens": TextStream(counting(51), batch=2, length=4),
        "length": TextStream(counting(50), batch=2, length=5),
        "seed": TextStream(counting(50), batch=2, length=4, seed=1),
        "order": TextStream(counting(50), batch=2, length=4, order="random"),
    }
    for name, stream in others.items():
        with pytest.raises(UserError, match=f"can't resume the data: {name} was"):
            stream.load_state_dict(state)
        assert stream.index == 0


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    take(TextStream(counting(50), batch=2, length=4), 30)
    list(validation_windows(counting(50), 4, 3))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_a_text_shorter_than_the_context_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"64 tokens, but a context of 64 needs.* 65"):
        TextStream(counting(64), batch=1, length=64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch = 0"),
        ({"length": 0}, "length = 0"),
        ({"rank": 2, "world": 2}, "rank = 2"),
        ({"rank": -1}, "rank = -1"),
        ({"order": "sorted"}, "order = 'sorted'"),
    ],
)
def test_impossible_settings_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        TextStream(counting(50), **{"batch": 2, "length": 4, **options})


def test_a_folder_of_shards_will_do(tmp_path):
    tokenizer = ByteTokenizer()
    write_shards(["a tale of bytes"] * 9, tokenizer, tmp_path, val_fraction=0)
    batch = next(TextStream(tmp_path, batch=2, length=5))
    assert tokenizer.decode(batch.inputs[0].tolist()) in "a tale of bytes<|endoftext|>"


@settings(max_examples=150, derandomize=True, deadline=None)
@given(size=st.integers(2, 80), length=st.integers(1, 30), rows=st.integers(1, 5))
def test_evaluation_covers_every_token_but_the_first_once(size, length, rows):
    batches = list(validation_windows(counting(size), length, rows))
    targets = []
    for batch in batches:
        assert batch.inputs.shape == batch.targets.shape == batch.weights.shape
        assert batch.inputs.shape[0] <= rows
        assert batch.inputs.shape[1] == length
        assert batch.denominator == float(batch.weights.sum())
        real = batch.weights == 1
        assert torch.equal(batch.targets[real], batch.inputs[real] + 1)
        targets += batch.targets[real].tolist()
    assert targets == list(range(1, size))
    assert sum(batch.denominator for batch in batches) == size - 1


def test_evaluation_of_a_single_token_is_refused():
    with pytest.raises(UserError, match="has 1 tokens"):
        list(validation_windows(counting(1), 8, 2))
    with pytest.raises(UserError, match="length = 0"):
        list(validation_windows(counting(9), 0, 2))
