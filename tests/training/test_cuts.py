"""A whole cut into parts, and files that together are one snapshot."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from folio.model.store import model_tensors
from folio.training.cuts import Cut, cuts_of, local, part, piece
from folio.training.parts import (
    MANIFEST,
    DamagedSnapshotError,
    entry,
    file_names,
    manifest_of,
    part_names,
)
from folio.training.rank_snapshot import dealt_out
from folio.training.snapshot import (
    check_snapshot,
    newest_snapshot,
    optimizer_tensors,
    restore,
    save_snapshot,
)
from helpers import assert_same, everything, losses, tiny_learner, tiny_stream


@given(st.integers(0, 40), st.integers(1, 9))
def test_pieces_lie_side_by_side_and_are_all_there_is(size, count):
    end = 0
    for index in range(count):
        start, length = piece(size, count, index)
        assert start == end
        end += length
    assert end == size


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 4))
def test_parts_of_a_matrix_that_is_cut_twice_cover_it_once(rows, columns, heads, data):
    whole = torch.arange(rows * columns).view(rows, columns)
    for dim in (0, 1):  # by outputs and by inputs; data always cuts rows
        parts = [
            part(whole, [Cut(dim, heads, h, "tensor"), Cut(0, data, d, "data")])
            for h in range(heads)
            for d in range(data)
        ]
        found = sorted(torch.cat([each.flatten() for each in parts]).tolist())
        assert found == whole.flatten().tolist()


def test_a_plain_tensor_is_whole():
    x = torch.ones(2)
    assert cuts_of(x) == []
    assert local(x) is part(x, []) is x


@given(st.lists(st.integers(1, 1000), max_size=30), st.integers(1, 5))
def test_nobody_writes_much_more_than_another(sizes, world):
    owners = dealt_out(sizes, world)
    load = [
        sum(s for s, o in zip(sizes, owners, strict=True) if o == r)
        for r in range(world)
    ]
    assert max(load) - min(load) <= max(sizes, default=0)


# ---- as two ranks would have written it ----------------------------------------------


def split_snapshot(folder, learner):
    """The snapshot of this step in two parts, as ranks write it."""
    path = save_snapshot(folder, learner, {"stream": 7})
    for stem, tensors in (
        ("model", model_tensors(learner.model)),
        ("optim", optimizer_tensors(learner.optimizer)),
    ):
        (path / f"{stem}.safetensors").unlink()
        for index, name in enumerate(part_names(stem, 2)):
            share = dict(list(tensors.items())[index::2])
            (path / name).write_bytes(save(share))
    entries = {name: entry(path / name) for name in file_names(path)}
    (path / MANIFEST).write_bytes(manifest_of(entries))
    return path


def test_one_process_goes_on_from_what_two_have_written(tmp_path):
    learner, stream = tiny_learner(), tiny_stream()
    losses(learner, stream, 3)
    split_snapshot(tmp_path, learner)
    again = tiny_learner(seed=1)
    snapshot = newest_snapshot(tmp_path)
    restore(snapshot, again)
    assert snapshot.state["stream"] == 7
    assert again.step == 3
    assert_same(everything(again), everything(learner))
    other = tiny_stream()
    other.load_state_dict(stream.state_dict())
    assert losses(again, other, 2) == losses(learner, stream, 2)


@pytest.mark.parametrize("name", [*part_names("model", 2), *part_names("optim", 2)])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_to_any_part_is_found_and_named(name, how, tmp_path):
    learner, stream = tiny_learner(), tiny_stream()
    losses(learner, stream, 1)
    older = split_snapshot(tmp_path, learner)
    losses(learner, stream, 1)
    newer = split_snapshot(tmp_path, learner)
    check_snapshot(newer)
    data = bytearray((newer / name).read_bytes())
    data[len(data) // 2] ^= 1
    if how == "remove":
        (newer / name).unlink()
    else:
        (newer / name).write_bytes(data if how == "flip" else data[:-1])
    with pytest.raises(DamagedSnapshotError, match=name):
        check_snapshot(newer)
    said = []
    assert newest_snapshot(tmp_path, said.append).path == older
    assert "trying the one before" in said[0]


def test_a_manifest_that_leaves_a_part_out_is_found(tmp_path):
    learner = tiny_learner()
    path = split_snapshot(tmp_path, learner)
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["files"][part_names("model", 2)[1]]
    (path / MANIFEST).write_bytes(json.dumps(manifest, indent=2).encode())
    with pytest.raises(DamagedSnapshotError, match=part_names("model", 2)[1]):
        check_snapshot(path)
