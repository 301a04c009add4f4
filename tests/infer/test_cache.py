"""Caches: what each stores, where, for how long, and what stays unseen."""

import pytest
import torch

from folio.infer.cache import FullCache, Ring, RollingCache, make_caches
from folio.model.config import ModelConfig
from folio.model.mask import visible


def keys(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_was_stored_comes_back_at_its_position():
    cache, seen = FullCache(2, 3, 6, 4), []
    for number, positions in enumerate(([[0, 1], [0, 1]], [[2], [5]])):
        positions = torch.tensor(positions)
        k = keys(2, 3, positions.shape[1], 4, seed=number)
        seen.append((k, positions))
        stored, values, places = cache.update(k, -k, positions)
    assert torch.equal(values, -stored)
    assert places[:, :6].tolist() == [[0, 1, 2, -1, -1, -1], [0, 1, -1, -1, -1, 5]]
    for k, positions in seen:
        for row in range(2):
            assert torch.equal(stored[row, :, positions[row]], k[row])


def test_positions_of_one_row_serve_the_whole_batch():
    cache = FullCache(3, 1, 4, 2)
    k = keys(3, 1, 2, 2)
    stored, _, places = cache.update(k, k, torch.tensor([[0, 1]]))
    assert places[:, :2].tolist() == [[0, 1]] * 3
    assert torch.equal(stored[:, :, :2], k)


def test_padding_is_stored_where_nobody_looks():
    cache = FullCache(2, 1, 4, 2)
    positions = torch.tensor([[-1, -1, 0, 1], [0, 1, 2, 3]])
    k = keys(2, 1, 4, 2)
    stored, _, places = cache.update(k, k, positions)
    assert places[:, :4].tolist() == [[0, 1, -1, -1], [0, 1, 2, 3]]
    assert torch.equal(stored[0, :, :2], k[0, :, 2:])
    assert torch.equal(stored[1, :, :4], k[1])
    mask = visible(positions, places)
    assert mask.sum(-1).tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]


def test_overwriting_a_position_replaces_it():
    cache = FullCache(1, 1, 4, 2)
    for number in range(2):
        k = keys(1, 1, 3, 2, seed=number)
        stored, _, places = cache.update(k, k, torch.tensor([[0, 1, 2]]))
    assert torch.equal(stored[:, :, :3], k)
    assert places[0].tolist() == [0, 1, 2, -1, -1]


def test_a_position_far_beyond_the_end_is_an_error_not_a_wrap():
    cache = FullCache(1, 1, 4, 2)
    with pytest.raises(IndexError):
        cache.update(keys(1, 1, 1, 2), keys(1, 1, 1, 2), torch.tensor([[5]]))


def test_shapes_do_not_change_as_it_fills():
    cache = FullCache(1, 1, 8, 2)
    shapes = set()
    for place in range(8):
        k = keys(1, 1, 1, 2)
        shapes.add(tuple(t.shape for t in cache.update(k, k, torch.tensor([[place]]))))
    assert len(shapes) == 1


def test_layers_share_one_record_of_positions():
    first = FullCache(2, 1, 4, 2)
    second = FullCache(2, 1, 4, 2, beside=first)
    k, positions = keys(2, 1, 2, 2), torch.tensor([[0, 1], [-1, 0]])
    places = [
        cache.update(k * n, k, positions)[2] for n, cache in ((1, first), (2, second))
    ]
    assert places[0] is places[1]
    assert places[0][:, :4].tolist() == [[0, 1, -1, -1], [0, -1, -1, -1]]
    assert torch.equal(second.k, 2 * first.k)


# Rolling


def rolling(window: int, sinks: int, batch: int = 1, **more) -> RollingCache:
    return RollingCache(batch, 1, window, sinks, 2, **more)


def keys_at(positions: torch.Tensor) -> torch.Tensor:
    """Keys (B, 1, T, 2) that say where they are from."""
    return positions[:, None, :, None].expand(-1, 1, -1, 2) + 0.5


def read(cache: RollingCache, *chunks: list[list[int]]) -> torch.Tensor:
    """Hand over chunks of positions; returns the positions that came back last."""
    for chunk in chunks:
        positions = torch.tensor(chunk)
        k, v, places = cache.update(keys_at(positions), -keys_at(positions), positions)
        held = places >= 0
        assert torch.equal(k[:, 0, :, 0][held], places[held] + 0.5)
        assert torch.equal(v[:, 0, :, 1][held], -places[held] - 0.5)
    return places


def kept(cache: RollingCache) -> list[list[int]]:
    """What is remembered, in order, for each row."""
    return [sorted(p for p in row if p >= 0) for row in cache.ring.positions.tolist()]


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("sinks", [0, 1, 3])
def test_a_token_overwrites_the_one_that_left_the_window(window, sinks):
    cache, shapes = rolling(window, sinks), set()
    for place in range(40):
        places = read(cache, [[place]])
        shapes.add(places.shape)
        wanted = {p for p in range(place + 1) if p > place - window or p < sinks}
        assert kept(cache) == [sorted(wanted)]
        seen = visible(torch.tensor([[place]]), places, window, sinks)
        assert set(places[seen[0]].tolist()) == wanted
    assert shapes == {(1, window + sinks + 1)}


@pytest.mark.parametrize("chunk", [2, 3, 7, 20])
@pytest.mark.parametrize("sinks", [0, 2])
def test_a_chunk_sees_the_old_and_all_of_itself_before_it_forgets(chunk, sinks):
    window, cache = 4, rolling(4, sinks)
    for start in range(0, 60, chunk):
        places = read(cache, [list(range(start, start + chunk))])
        for place in range(start, start + chunk):
            seen = visible(torch.tensor([[place]]), places, window, sinks)
            wanted = {p for p in range(place + 1) if p > place - window or p < sinks}
            assert sorted(places[seen[0]].tolist()) == sorted(wanted)
        end = start + chunk
        assert kept(cache) == [
            [p for p in range(end) if p >= end - window or p < sinks]
        ]


def test_rows_of_different_length_roll_each_at_its_own_pace():
    cache = rolling(3, 1, batch=3)
    read(cache, [[-1, -1, -1, 0, 1], [0, 1, 2, 3, 4], [0, 1, -1, -1, -1]])
    assert kept(cache) == [[0, 1], [0, 2, 3, 4], [0, 1]]
    read(cache, [[2], [5], [-1]])
    assert kept(cache) == [[0, 1, 2], [0, 3, 4, 5], [0, 1]]
    read(cache, [[3, 4, 5, 6], [6, -1, -1, 7], [-1] * 4])
    assert kept(cache) == [[0, 4, 5, 6], [0, 5, 6, 7], [0, 1]]


def test_positions_of_one_row_serve_a_rolling_batch():
    cache = rolling(3, 1, batch=2)
    for positions in ([[0, 1, 2, 3, 4]], [[5]]):
        positions = torch.tensor(positions)
        k = keys_at(positions).expand(2, -1, -1, -1)
        places = cache.update(k, k, positions)[2]
        assert len(places) == 2
    assert kept(cache) == [[0, 3, 4, 5]] * 2


def test_memory_does_not_grow():
    cache = rolling(8, 2)
    before = [cache.k.data_ptr(), cache.v.data_ptr(), cache.ring.positions.data_ptr()]
    read(cache, *([[3 * i, 3 * i + 1, 3 * i + 2]] for i in range(100)), [[300]])
    after = [cache.k.data_ptr(), cache.v.data_ptr(), cache.ring.positions.data_ptr()]
    assert before == after
    assert cache.k.shape == cache.v.shape == (1, 1, 11, 2)


def test_rolling_layers_share_one_ring_and_one_mask():
    first = rolling(3, 1)
    caches = [first, rolling(3, 1, beside=first), rolling(3, 1, beside=first)]
    for chunk in ([[0, 1]], [[2]], [[3, 4, 5, 6, 7, 8]], [[9, 10]], [[11]], [[12]]):
        answers = [read(cache, chunk) for cache in caches]
        assert answers[0] is answers[1] is answers[2]
        assert {str(kept(cache)) for cache in caches} == {str(kept(first))}
    assert kept(first) == [[0, 10, 11, 12]]


def test_the_slot_of_a_position_repeats_with_the_window():
    ring = Ring(1, window=3, sinks=2)
    found = ring.slots(torch.arange(-1, 9)[None])
    assert found.tolist() == [[-1, 0, 1, 2, 3, 4, 2, 3, 4, 2]]


def test_no_two_tokens_of_a_chunk_are_written_to_one_slot():
    """Which of them stayed would be chance, on a GPU."""
    for window, sinks, length in ((1, 0, 5), (3, 1, 9), (3, 2, 5), (4, 0, 4)):
        ring = Ring(2, window, sinks)
        rows = torch.stack([torch.arange(length), torch.arange(length) - 2])
        ring.begin(rows.clamp(min=-1))
        for slots in ring.chunk.slots.tolist():
            real = [slot for slot in slots if slot >= 0]
            assert len(set(real)) == len(real)
            assert max(real) < window + sinks


# One for each layer


def test_one_cache_for_each_layer_of_the_models_shape():
    config = ModelConfig(d_model=24, n_layers=3, n_heads=6, n_kv_heads=2)
    caches = make_caches(config, batch=5, capacity=7, dtype=torch.bfloat16)
    assert len(caches) == 3
    assert len({c.k.data_ptr() for c in caches}) == 3
    assert len({id(c.positions) for c in caches}) == 1
    for cache in caches:
        assert cache.k.dtype == cache.v.dtype == torch.bfloat16
        assert (cache.k.shape[0], cache.k.shape[1], cache.k.shape[3]) == (5, 2, 4)


def test_windowed_layers_roll_and_full_ones_do_not():
    config = ModelConfig(n_layers=5, window=8, sinks=2, attention_pattern="wwf")
    caches = make_caches(config, batch=1, capacity=64)
    kinds = [type(cache) for cache in caches]
    assert kinds == [RollingCache, RollingCache, FullCache, RollingCache, RollingCache]
    assert len({id(cache.ring) for cache in caches if type(cache) is RollingCache}) == 1
    assert [cache.k.shape[2] for cache in caches] == [11, 11, 65, 11, 11]


def test_a_window_that_is_never_left_needs_no_ring():
    config = ModelConfig(n_layers=2, window=8, sinks=2)
    assert type(make_caches(config, 1, capacity=10)[0]) is FullCache
    assert type(make_caches(config, 1, capacity=11)[0]) is RollingCache
