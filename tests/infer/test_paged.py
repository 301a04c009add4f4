"""Pages: who holds them, what is stored in them, what of them can be seen."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.infer import page_layout
from folio.infer.cache import FullCache
from folio.infer.page_layout import Layout
from folio.infer.paged import PagedStore, page_bytes, shortest_reach
from folio.infer.paged_rows import paged_caches
from folio.infer.pages import OutOfPages, PagePool, PageTable, page_names
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.mask import visible

MANY = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def config_of(**changes) -> ModelConfig:
    fields = {"vocab_size": 11, "d_model": 8, "n_layers": 2, "n_heads": 2}
    return ModelConfig(**(fields | changes))


# The pool


def test_pages_are_shared_remembered_and_given_up_in_the_order_of_use():
    pool = PagePool(3)
    first, second = pool.take(2)
    pool.remember(first, b"a")
    pool.remember(second, b"ab")
    assert pool.share(b"a") == first
    pool.release([first, second])  # the other user still has the first
    assert (pool.available, pool.used) == (2, 1)
    pool.release([first])
    assert pool.share(b"ab") == second
    pool.release([second])
    assert len(pool.take(2)) == 2  # the free one, and the least recently used
    assert pool.share(b"a") is None
    assert pool.share(b"ab") == second


def test_the_end_of_a_prefix_is_given_up_before_its_start():
    pool = PagePool(3)
    pages = pool.take(3)
    for page, name in zip(pages, (b"1", b"12", b"123"), strict=True):
        pool.remember(page, name)
    pool.release(pages)
    pool.take(1)
    assert [pool.share(name) for name in (b"1", b"12", b"123")] == [*pages[:2], None]


def test_too_few_pages_take_nothing():
    pool = PagePool(2)
    pool.take(1)
    with pytest.raises(OutOfPages):
        pool.take(2)
    assert pool.available == 1


def test_what_is_forgotten_is_free_and_never_found():
    pool = PagePool(2)
    held, idle = pool.take(2)
    pool.remember(held, b"a")
    pool.remember(idle, b"b")
    pool.release([idle])
    pool.forget()
    assert (pool.share(b"a"), pool.share(b"b")) == (None, None)
    pool.release([held])
    assert sorted(pool.free) == [1, 2]


def test_names_say_all_that_came_before():
    long = page_names([1, 2, 3, 4, 5, 6, 7], 2)
    assert len(long) == 3
    assert page_names([1, 2, 3, 4], 2) == long[:2]
    assert page_names([9, 2, 3, 4], 2)[1] != long[1]
    assert page_names([3, 4], 2)[0] != long[1]
    assert page_names([1], 2) == []


@MANY
@given(st.integers(0, 10**6))
def test_the_pool_never_loses_or_doubles_a_page(seed):
    chances, pool, held, number = random.Random(seed), PagePool(7), [], 0
    for _ in range(60):
        match chances.randrange(4):
            case 0:
                count = chances.randrange(4)
                if count <= pool.available:
                    held.append(pool.take(count))
                else:
                    with pytest.raises(OutOfPages):
                        pool.take(count)
            case 1 if held:
                pool.release(held.pop(chances.randrange(len(held))))
            case 2 if held and held[-1]:
                number += 1
                pool.remember(chances.choice(held[-1]), b"%d" % number)
            case 3 if pool.known:
                held.append([pool.share(chances.choice(list(pool.known)))])
        users = [page for pages in held for page in pages]
        groups = [set(pool.free), set(pool.idle), set(users)]
        assert sorted(page for group in groups for page in group) == list(range(1, 8))
        assert pool.users[1:] == [users.count(page) for page in range(1, 8)]
        assert pool.used == len(groups[2])
        assert set(pool.idle) <= set(pool.names)


def test_a_table_gives_back_what_no_later_token_sees():
    pool = PagePool(20)
    table = PageTable(pool, 2, page_size=4, reach=(6, 3))
    table.grow(0, 40)
    assert pool.used == 10
    table.give_back(0, 17)  # sees 12 .. 17 and the sinks 0 .. 2
    assert [bool(page) for page in table.pages[0][:5]] == [
        True,
        False,
        False,
        True,
        True,
    ]
    table.give_back(0, 15)  # going back takes nothing away
    assert pool.used == 8
    table.drop(0)
    assert pool.available == 20
    assert not table.pages.any()


# The cache, against a record of everything that was ever stored


def steps_of(chances: random.Random, rows: int, longest: int):
    """Positions (B, T) of some calls: ragged, in any chunks, padded anywhere."""
    lengths = [0] * rows
    for _ in range(chances.randrange(1, 6)):
        width = chances.choice((1, 1, 2, 5, 9))
        positions = torch.full((rows, width), -1)
        for row in range(rows):
            count = min(chances.randrange(width + 1), longest - lengths[row])
            places = sorted(chances.sample(range(width), count))
            new = torch.arange(lengths[row], lengths[row] + count)
            positions[row, places] = new
            lengths[row] += count
        yield positions


@MANY
@given(st.integers(0, 10**6))
def test_every_visible_key_comes_back_and_nothing_else_does(seed):
    chances = random.Random(seed)
    rows, longest = chances.randrange(1, 4), 30
    window = chances.choice((None, 3, 8))
    sinks = chances.choice((0, 2, 5)) if window else 0
    config = config_of(n_kv_heads=1, window=window, sinks=sinks)
    page_size = chances.choice((1, 2, 3, 4, 16))
    generator = torch.Generator().manual_seed(seed)
    cache = paged_caches(config, rows, longest, page_size)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_layout, "BLOCK", chances.choice((4, 8, 512)))
        record = torch.zeros(rows, longest, 4)
        stored = torch.full((rows, longest), -1)
        for positions in steps_of(chances, rows, longest):
            k = torch.randn(rows, 1, positions.shape[1], 4, generator=generator)
            found, values, places = cache.update(k, -k, positions)
            assert torch.equal(values, -found)
            assert found.shape[2] % 16 == 0
            real = positions >= 0
            row = torch.arange(rows)[:, None].expand_as(positions)[real]
            record[row, positions[real]] = k[:, 0][real]
            stored[row, positions[real]] = positions[real]
            seen = visible(positions, places, window, sinks)
            wanted = visible(positions, stored, window, sinks)
            assert torch.equal(seen.sum(-1), wanted.sum(-1))
            for b in range(rows):
                slots = seen[b].any(0).nonzero()[:, 0]
                assert len(set(places[b, slots].tolist())) == len(slots)
                assert torch.equal(found[b, 0, slots], record[b, places[b, slots]])


@MANY
@given(st.integers(0, 10**6))
def test_logits_are_those_of_the_full_cache(seed):
    chances = random.Random(seed)
    shape = chances.choice(
        (
            {},
            {"n_kv_heads": 1, "positions": "learned"},
            {"window": 4, "sinks": 2},
            {"window": 5, "attention_pattern": "wf", "positions": "none"},
            {"attention_softcap": 5.0},
        )
    )
    torch.manual_seed(seed)
    model = Decoder(config_of(max_seq_len=32, **shape)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    rows = chances.randrange(1, 4)
    heads, width, _ = model.config.cache_shape
    shape = (rows, heads, 30, width, "cpu", torch.float64)
    full = [FullCache(*shape) for _ in range(model.config.n_layers)]
    ours = paged_caches(
        model.config, rows, 30, chances.choice((1, 4, 16)), dtype=torch.float64
    )
    with torch.no_grad():
        for positions in steps_of(chances, rows, 30):
            tokens = torch.randint(0, 11, positions.shape)
            expected = model(tokens, positions, full).logits
            found = model(tokens, positions, ours).logits
            real = positions >= 0
            assert torch.allclose(found[real], expected[real], atol=1e-9)


def test_layers_of_a_kind_share_positions_so_that_masks_are_made_once():
    config = config_of(n_layers=4, window=3, attention_pattern="wf")
    caches = paged_caches(config, 1, 700, page_size=4)
    positions = torch.arange(600)[None]
    k = torch.randn(1, 2, 600, 4)
    places = [cache.update(k, k, positions)[2] for cache in caches]
    assert places[0] is places[2]
    assert places[1] is places[3]
    k = k[:, :, :1]
    position = torch.tensor([[600]])
    places = [cache.update(k, k, position)[2] for cache in caches]
    assert places[0] is places[2]
    assert places[1] is places[3]
    assert places[0].shape[1] < 130 < 600 < places[1].shape[1]


def test_a_windowed_model_writes_on_in_few_pages():
    config = config_of(window=6, sinks=2)
    caches = paged_caches(config, 1, capacity=16, page_size=4)
    for place in range(200):
        k = torch.full((1, 2, 1, 4), float(place))
        found, _, places = caches[0].update(k, k, torch.tensor([[place]]))
        caches[1].update(k, k, torch.tensor([[place]]))
    seen = visible(torch.tensor([[199]]), places, 6, 2)[0, 0]
    assert sorted(places[0, seen].tolist()) == [0, 1, 194, 195, 196, 197, 198, 199]
    assert torch.equal(found[0, 0, seen, 0], places[0, seen].float())


def test_positions_changed_in_place_are_looked_at_again():
    cache = paged_caches(config_of(), 1, 8, page_size=2)[0]
    positions, k = torch.tensor([[0]]), torch.ones(1, 2, 1, 4)
    cache.update(k, k, positions)
    positions += 1
    _, _, places = cache.update(k, k, positions)
    assert sorted(places[0].tolist())[-2:] == [0, 1]


def test_more_than_there_are_pages_is_an_error():
    cache = paged_caches(config_of(), 1, 8, page_size=4)[0]
    k = torch.ones(1, 2, 9, 4)
    with pytest.raises(OutOfPages):
        cache.update(k, k, torch.arange(9)[None])


def test_cleared_pages_hold_nothing_of_their_last_user():
    store = PagedStore(config_of(), 3, 4)
    for tensor in (store.keys, store.values):
        tensor.fill_(float("nan"))
    store.positions.fill_(5)
    store.clear([1, 3])
    for page, clean in ((1, True), (2, False), (3, True)):
        assert bool((store.positions[page] == -1).all()) == clean
        assert bool((store.keys[:, :, page] == 0).all()) == clean
        assert bool((store.values[:, :, page] == 0).all()) == clean


def test_bytes_of_a_page():
    config = config_of(n_kv_heads=1)
    store = PagedStore(config, 9, 4, dtype=torch.bfloat16)
    tensors = (store.keys, store.values, store.positions)
    whole = sum(tensor.nbytes for tensor in tensors)
    assert whole == 10 * page_bytes(config, 4, torch.bfloat16)


def played(seed: int, window: int | None, keep: bool):
    """Rows that come, decode, go and share pages: what a layer got in each call."""
    chances = random.Random(seed)
    config = config_of(window=window, sinks=2 if window else 0)
    store = PagedStore(config, 150, page_size=2)
    table = PageTable(PagePool(150), 7, 2, shortest_reach(config))
    layouts: list[Layout] = []
    cache = store.caches(lambda positions: layouts[-1])[0]
    lengths, numbers, got, kept = {}, itertools.count(1), [], 0
    for _ in range(60):
        action = chances.random()
        if lengths and (action < 0.1 or max(lengths.values()) > 40):  # one goes
            row = max(lengths, key=lengths.get)
            del lengths[row]
            table.drop(row)
        free = [row for row in range(6) if row not in lengths]
        if action < 0.3 and free:  # one comes and reads a prompt
            rows, new = [chances.choice(free)], chances.randint(2, 5)
            lengths[rows[0]] = 0
        else:  # some decode, in any order, beside an empty row
            some = min(len(lengths), chances.choice([2, 2, 3, 6]))
            rows, new = sorted(chances.sample(list(lengths), some)), 1
        for row in rows:
            table.give_back(row, lengths[row])
            store.clear(table.grow(row, lengths[row] + new))
        positions = np.full((len(rows) + 1, new), -1)
        for i, row in enumerate(rows):
            positions[i] = np.arange(lengths[row], lengths[row] + new)
            lengths[row] += new
        if not keep:
            store.looked.clear()
        layouts.append(Layout(store, table.pages[[*rows, 6]], positions))
        if chances.random() < 0.2:
            layouts[-1].keys(cache.window, cache.sinks)
            continue  # a call that failed after other layers of this kind
        fresh = [next(numbers) for _ in range(positions.size)]
        tokens = torch.tensor(fresh).view(len(positions), 1, new, 1) * torch.ones(4)
        tokens = tokens.expand(-1, 2, -1, -1)
        keys, values, places = cache.update(tokens, -tokens, torch.tensor(positions))
        seen = (places >= 0)[:, None, :, None]
        got.append((keys * seen, values * seen, places))
        kept += layouts[-1].keys(cache.window, cache.sinks).fresh is not None
    return got, kept


@pytest.mark.parametrize("window", [None, 3])
def test_copies_that_are_kept_equal_those_made_afresh(window):
    reused = 0
    for seed in range(40):
        (kept, count), (afresh, none) = (
            played(seed, window, keep) for keep in (True, False)
        )
        assert none == 0
        reused += count
        for one, other in zip(kept, afresh, strict=True):
            assert all(map(torch.equal, one, other)), seed
    assert reused > 300


def test_copies_are_not_kept_where_they_would_take_more_than_the_store():
    store = PagedStore(config_of(), 20, page_size=2)
    table = PageTable(PagePool(20), 2, 2)
    for row in (0, 1):
        table.grow(row, 8)
    small = Layout(store, table.pages[[0]], np.array([[3]]))
    large = Layout(store, table.pages[[0, 1]], np.array([[3], [3]]))
    assert (small.keys(None, 0).room, large.keys(None, 0).room) == (16, 0)
    assert Layout(store, table.pages[[0]], np.array([[4, 5]])).keys(None, 0).room == 0
