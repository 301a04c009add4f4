"""The full cache: what it stores, where, and what stays unseen."""

import pytest
import torch

from folio.infer.cache import FullCache, full_caches
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


def test_one_cache_for_each_layer_of_the_models_shape():
    config = ModelConfig(d_model=24, n_layers=3, n_heads=6, n_kv_heads=2)
    caches = full_caches(config, batch=5, capacity=7, dtype=torch.bfloat16)
    assert len(caches) == 3
    assert len({c.k.data_ptr() for c in caches}) == 3
    for cache in caches:
        assert cache.k.dtype == cache.v.dtype == torch.bfloat16
        assert (cache.k.shape[0], cache.k.shape[1], cache.k.shape[3]) == (5, 2, 4)
