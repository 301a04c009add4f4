"""Tokens: one sequence over many arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data import Tokens
from folio.data.tokens import token_dtype


def in_parts(ids, cuts):
    array = np.array(ids, dtype=np.uint16)
    parts = np.split(array, sorted(cuts))
    return Tokens(parts, vocab_size=65536, fingerprint="f")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_parts_read_like_one_array(data):
    ids = data.draw(st.lists(st.integers(0, 65535), min_size=1, max_size=40))
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=6))
    tokens = in_parts(ids, cuts)
    assert len(tokens) == len(ids)
    start, stop = data.draw(st.tuples(st.integers(-50, 50), st.integers(-50, 50)))
    assert tokens[start:stop].tolist() == ids[start:stop]
    position = data.draw(st.integers(-len(ids), len(ids) - 1))
    assert tokens[position] == ids[position]
    length = data.draw(st.integers(1, len(ids)))
    starts = data.draw(
        st.lists(st.integers(0, len(ids) - length), min_size=1, max_size=8)
    )
    rows = tokens.windows(np.array(starts), length)
    assert rows.dtype == np.int64
    assert rows.tolist() == [ids[s : s + length] for s in starts]


def test_a_slice_inside_one_part_is_not_copied():
    part = np.arange(100, dtype=np.uint16)
    tokens = Tokens([part], vocab_size=100, fingerprint="f")
    assert np.shares_memory(tokens[10:90], part)


def test_the_last_window_stays_inside():
    tokens = Tokens.from_ids(range(10))
    assert tokens.windows(np.array([7]), 3).tolist() == [[7, 8, 9]]
    with pytest.raises((IndexError, ValueError)):
        tokens.windows(np.array([8]), 3)


def test_out_of_range_and_stepped_reads_are_refused():
    tokens = Tokens.from_ids(range(10))
    for position in (10, -11):
        with pytest.raises(IndexError):
            tokens[position]
    with pytest.raises(ValueError, match="step 1"):
        tokens[::2]


def test_fingerprint_changes_with_any_id_and_not_with_the_container():
    ids = list(range(50))
    same = Tokens.from_ids(np.array(ids, dtype=np.int32), vocab_size=60)
    base = Tokens.from_ids(ids, vocab_size=60)
    assert base.fingerprint == same.fingerprint
    for place in range(50):
        other = ids.copy()
        other[place] += 1
        assert Tokens.from_ids(other, vocab_size=60).fingerprint != base.fingerprint


def test_type_follows_the_vocabulary():
    assert token_dtype(65536).itemsize == 2
    assert token_dtype(65537).itemsize == 4
    assert Tokens.from_ids([70000])[0] == 70000
    for wrong in (0, -1, 2**32 + 1):
        with pytest.raises(UserError, match="vocab_size"):
            token_dtype(wrong)


@pytest.mark.parametrize("ids", [[5, 10], [-1, 2]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(UserError, match=r"0\.\.9"):
        Tokens.from_ids(ids, vocab_size=10)
    with pytest.raises(UserError, match="one dimension"):
        Tokens.from_ids([ids], vocab_size=20)
