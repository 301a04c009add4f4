"""The compiled kernel that attends to pages as they lie, against the mask rule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.infer.engine import Engine
from folio.infer.paged import InPlace, PagedStore, can_attend_in_place
from folio.infer.paged_rows import paged_caches
from folio.infer.sampling import Sampling
from folio.model.attend import attend_reference
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.mask import Mask

kernel = pytest.importorskip("folio.infer.page_attention")

MANY = settings(derandomize=True, deadline=None, database=None, max_examples=60)
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
PAGES, SIZE = 40, 4


def memory(make: torch.Generator, groups: int, width: int, dtype: torch.dtype):
    """A store that is full of numbers, in pages that nobody has either."""
    shape = (groups, PAGES, SIZE * width)
    return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)


@given(
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    window=st.sampled_from([None, 1, 3, 9]),
    shape=st.sampled_from([(2, 2, 8, 8), (4, 2, 5, 3), (3, 1, 16, 16)]),
)
@MANY
def test_it_is_attention_by_the_mask_rule(seed, dtype, window, shape):
    """Rows of any lengths, pages in any order, some of them shared, some padding."""
    heads, groups, width, value_width = shape
    make, chance = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    keys = memory(make, groups, width, dtype)
    values = memory(make, groups, value_width, dtype)
    rows = 5
    q = torch.randn(rows, heads, 1, width, generator=make, dtype=torch.float64)
    q = q.to(dtype)
    positions = chance.integers(-1, 5 * SIZE, rows)
    pages = np.zeros((rows, 6), dtype=np.int64)
    held = np.full((PAGES, SIZE), -1)
    unused = iter(chance.permutation(np.arange(1, PAGES)))
    for row, last in enumerate(positions):
        for column in range(last // SIZE + 1):
            shares = row > 0 and positions[row - 1] // SIZE > column == 0
            page = pages[row - 1, 0] if shares else next(unused)
            pages[row, column] = page
            start = column * SIZE
            end = SIZE if shares else min(last + 1 - start, SIZE)
            held[page, :end] = np.arange(start, start + end)
    y = kernel.attend_pages(
        q,
        kernel.as_array(keys, SIZE),
        kernel.as_array(values, SIZE),
        pages,
        positions,
        window,
        0.3,
    )
    assert y.shape == (rows, heads, 1, value_width)
    assert y.dtype == dtype
    for row in range(rows):
        mask = Mask(
            torch.tensor(positions[row]).view(1, 1),
            torch.from_numpy(held[pages[row]]).view(1, -1),
            window,
        )
        k, v = (
            x[:, pages[row]].reshape(1, groups, 6 * SIZE, -1).double()
            for x in (keys, values)
        )
        k, v = (x.repeat_interleave(heads // groups, 1) for x in (k, v))
        wanted = attend_reference(q[row : row + 1].double(), k, v, mask, scale=0.3)
        torch.testing.assert_close(
            y[row : row + 1].double(), wanted, atol=CLOSE[dtype], rtol=CLOSE[dtype]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_and_neighbors_change_no_bit(dtype, monkeypatch):
    monkeypatch.setattr(kernel, "WORTH", 1)
    make = torch.Generator().manual_seed(1)
    keys = kernel.as_array(memory(make, 2, 8, dtype), SIZE)
    q = torch.randn(7, 4, 1, 8, generator=make).to(dtype)
    pages = np.random.default_rng(1).permutation(np.arange(1, 36)).reshape(7, 5)
    last = np.array([19, 3, -1, 7, 12, 0, 18])

    def answers(rows: list[int]) -> torch.Tensor:
        return kernel.attend_pages(
            q[rows], keys, keys, pages[rows], last[rows], None, 0.5
        )

    before, everybody = torch.get_num_threads(), list(range(7))
    try:
        torch.set_num_threads(1)
        one = answers(everybody)
        torch.set_num_threads(3)
        assert torch.equal(answers(everybody), one)
    finally:
        torch.set_num_threads(before)
    for row in everybody:
        assert torch.equal(answers([row]), one[row : row + 1])
    assert not one[2].any()


def config_of(**changes) -> ModelConfig:
    fields = {"vocab_size": 30, "d_model": 16, "n_layers": 2, "n_heads": 4}
    return ModelConfig(**(fields | {"max_seq_len": 64} | changes))


def test_the_engine_uses_it_and_says_what_it_says_by_copies(monkeypatch):
    torch.manual_seed(0)
    model = Decoder(config_of(n_kv_heads=2)).double()
    asked, used = [[1, 2, 3], [4] * 20, [5, 6]], []
    attend_pages = kernel.attend_pages

    def counted(*arguments):
        used.append(len(arguments[0]))
        return attend_pages(*arguments)

    monkeypatch.setattr(kernel, "attend_pages", counted)

    def said():
        options = {"sampling": Sampling(1.0), "n": 3, "max_new_tokens": 12}
        engine = Engine(model, page_size=4, chunk=16)
        return [s.ids for s in engine.generate(asked, **options)]

    in_place = said()
    assert used
    used.clear()
    monkeypatch.setattr("folio.infer.paged.page_attention", lambda: None)
    assert said() == in_place
    assert not used


def test_what_the_kernel_does_not_know_is_gathered():
    for special in (
        {"attention_softcap": 5.0},
        {"window": 8, "sinks": 2},
        {"latent": {"rank": 8, "rope_width": 4}},
    ):
        if "latent" in special:
            from folio.model.config import Latent

            special = {"latent": Latent(**special["latent"])}
        store = PagedStore(config_of(**special), 4, 4)
        assert not can_attend_in_place(store), special
    assert can_attend_in_place(PagedStore(config_of(window=8), 4, 4))
    half = PagedStore(config_of(), 4, 4, dtype=torch.float16)
    assert not can_attend_in_place(half)


def test_several_tokens_at_once_are_gathered():
    cache = paged_caches(config_of(), batch=1, capacity=16)[0]
    cache.in_place = True
    x = torch.randn(1, 4, 3, 4)
    k, _, positions = cache.update(x, x, torch.arange(3)[None])
    assert isinstance(k, torch.Tensor)
    assert positions.shape[1] == k.shape[2]
    k, v, _ = cache.update(x[:, :, :1], x[:, :, :1], torch.tensor([[3]]))
    assert isinstance(k, InPlace)
    assert k is v
    q = torch.randn(1, 4, 1, 4)
    y = k.attend(q, 1 / math.sqrt(4))
    keys = torch.cat([x, x[:, :, :1]], 2)
    weights = (q @ keys.mT / 2).softmax(-1)
    torch.testing.assert_close(y, weights @ keys)
