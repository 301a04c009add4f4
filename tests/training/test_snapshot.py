"""A snapshot is whole or absent, whatever happens while it is written or kept."""

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.files import remove_temporary
from folio.training import parts as parts_module
from folio.training import snapshot as snapshot_module
from folio.training.nonfinite import NonFiniteError
from folio.training.snapshot import (
    FILES,
    MANIFEST,
    DamagedSnapshotError,
    newest_snapshot,
    prune,
    read_snapshot,
    restore,
    save_snapshot,
    snapshot_paths,
)
from helpers import (
    assert_same,
    everything,
    files_below,
    losses,
    tiny_learner,
    tiny_model,
    tiny_stream,
)

PARTS = (*FILES, MANIFEST)


def silent(text):
    pass


@pytest.fixture
def learner():
    learner = tiny_learner()
    losses(learner, tiny_stream(), 2)
    return learner


def saved_at(folder: Path, learner, *steps: int) -> list[Path]:
    """Snapshots that differ in their step alone."""
    paths = []
    for step in steps:
        learner.step = step
        paths.append(save_snapshot(folder, learner, {"stream": {"index": step}}))
    return paths


# ---- what is in it -------------------------------------------------------------------


def test_it_holds_what_the_format_says(tmp_path, learner):
    path = save_snapshot(tmp_path, learner, {"stream": {"index": 4}})
    assert path == tmp_path / "step-00000002"
    assert sorted(p.name for p in path.iterdir()) == sorted(PARTS)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    manifest = json.loads((path / MANIFEST).read_text())
    assert sorted(manifest["files"]) == sorted(FILES)
    for name, entry in manifest["files"].items():
        assert entry["bytes"] == (path / name).stat().st_size
    assert json.loads((path / "state.json").read_text())["stream"] == {"index": 4}


def test_the_master_weights_are_kept_in_fp32(tmp_path):
    learner = tiny_learner(precision="bf16")
    losses(learner, tiny_stream(), 1)
    saved = read_snapshot(save_snapshot(tmp_path, learner, {}))
    assert {t.dtype for t in saved.model.values()} == {torch.float32}
    assert torch.equal(saved.model["embedding.weight"], learner.model.embedding.weight)


def test_restoring_gives_all_of_it_back(tmp_path, learner):
    torch.manual_seed(5)
    learner.skipped_in_a_row = 2
    path = save_snapshot(tmp_path, learner, {})
    before, drawn = everything(learner), torch.rand(3)
    other = tiny_learner(seed=9)
    losses(other, tiny_stream(), 1)
    restore(read_snapshot(path), other)
    assert_same(everything(other), before)
    assert torch.equal(torch.rand(3), drawn)
    for name in ("step", "denominator", "skipped_in_a_row"):
        assert getattr(other, name) == getattr(learner, name)


def test_a_first_update_that_was_skipped_can_be_resumed(tmp_path):
    """Then the optimizer has no state yet, which is a state like any other."""
    learner = tiny_learner()
    learner.step = 1
    path = save_snapshot(tmp_path, learner, {})
    other = tiny_learner(seed=2)
    losses(other, tiny_stream(), 1)
    restore(read_snapshot(path), other)
    assert_same(everything(other), everything(learner))
    assert not other.optimizer.state


def test_weights_of_another_model_are_refused(tmp_path, learner):
    saved = read_snapshot(save_snapshot(tmp_path, learner, {}))
    with pytest.raises(UserError, match=r"weights do not fit the model.*blocks\.1"):
        restore(saved, tiny_learner(model=tiny_model(n_layers=1)))
    with pytest.raises(UserError, match="has shape"):
        restore(saved, tiny_learner(model=tiny_model(d_ff=24)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_snapshot_has_weights_that_are_not_finite(tmp_path, learner, bad):
    (good,) = saved_at(tmp_path, learner, 2)
    learner.step = 3
    with torch.no_grad():
        learner.model.blocks[1].mlp.down.weight[0, 0] = bad
    with pytest.raises(NonFiniteError, match=r"weight blocks\.1\.mlp\.down\.weight"):
        save_snapshot(tmp_path, learner, {})
    assert list(tmp_path.iterdir()) == [good]


# ---- the order in which it reaches the disk ------------------------------------------


class Disk:
    """Records what reaches the disk, by watching `os`; can fail or die at one call."""

    def __init__(self, monkeypatch):
        self.calls: list[tuple[str, str]] = []
        self.fail_at: int | None = None
        self.error: BaseException | None = None
        self.at_call = lambda number: None
        handles: dict[int, str] = {}
        real = {name: getattr(os, name) for name in ("open", "fsync", "rename")}
        mkdir, builtin_open = Path.mkdir, open

        def watched_open(path, *options, **more):
            handle = real["open"](path, *options, **more)
            handles[handle] = str(path)
            return handle

        def watched_file(path, mode="r", *options, **more):
            if "w" in mode:
                self._call("write", path)
            file = builtin_open(path, mode, *options, **more)
            handles[file.fileno()] = str(path)
            return file

        def fsync(handle):
            self._call("fsync", handles[handle])
            real["fsync"](handle)

        def rename(old, new, **more):
            self._call("rename", new)
            real["rename"](old, new, **more)

        def watched_mkdir(path, *options, **more):
            self._call("mkdir", path)
            mkdir(path, *options, **more)

        monkeypatch.setattr(os, "open", watched_open)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(Path, "mkdir", watched_mkdir)
        for module in (snapshot_module, parts_module):
            monkeypatch.setattr(module, "open", watched_file, raising=False)

    def _call(self, name: str, path) -> None:
        self.at_call(len(self.calls))
        self.calls.append((name, Path(path).name))
        if self.fail_at is not None and len(self.calls) > self.fail_at:
            raise self.error


def test_files_then_manifest_then_folder_then_rename_then_parent(
    tmp_path, learner, monkeypatch
):
    disk = Disk(monkeypatch)
    save_snapshot(tmp_path, learner, {})
    staging = f".tmp-2-{os.getpid()}"
    each = [(call, name) for name in PARTS for call in ("write", "fsync")]
    assert disk.calls == [
        ("mkdir", tmp_path.name),
        ("mkdir", staging),
        *each,
        ("fsync", staging),
        ("rename", "step-00000002"),
        ("fsync", tmp_path.name),
    ]


class PowerCut(BaseException):
    """The process ends here; nothing that it would do afterwards happens."""


CALLS = 2 + 2 * len(PARTS) + 3


@pytest.mark.parametrize("call", range(CALLS))
def test_a_crash_before_any_call_leaves_the_old_or_the_new(
    tmp_path, learner, monkeypatch, call
):
    runs = tmp_path / "run"
    saved_at(runs, learner, 2)
    disk = Disk(monkeypatch)
    learner.step = 3
    disk.at_call = lambda number: (
        shutil.copytree(runs, tmp_path / "crashed") if number == call else None
    )
    save_snapshot(runs, learner, {"stream": {"index": 3}})
    monkeypatch.undo()
    assert len(disk.calls) == CALLS
    found = newest_snapshot(tmp_path / "crashed", silent)
    renamed = call > disk.calls.index(("rename", "step-00000003"))
    assert found.state["stream"]["index"] == (3 if renamed else 2)
    remove_temporary(tmp_path / "crashed")
    assert len(list((tmp_path / "crashed").iterdir())) == (2 if renamed else 1)


def test_unflushed_bytes_lost_in_a_power_cut_leave_the_old_or_the_new(
    tmp_path, learner, monkeypatch
):
    """What was written but not yet flushed may be gone; before each call, lose it."""
    runs = tmp_path / "run"
    saved_at(runs, learner, 2)
    disk = Disk(monkeypatch)
    learner.step = 3
    states: list[Path] = []

    def lose(number: int) -> None:
        state = tmp_path / f"cut-{number}"
        shutil.copytree(runs, state)
        flushed = {name for call, name in disk.calls if call == "fsync"}
        for path in [*state.glob(".tmp-*/*"), *state.glob("step-00000003/*")]:
            if path.name not in flushed:
                path.write_bytes(b"")
        states.append(state)

    disk.at_call = lose
    save_snapshot(runs, learner, {"stream": {"index": 3}})
    monkeypatch.undo()
    assert len(states) == CALLS
    for state in states:
        assert newest_snapshot(state, silent).state["stream"]["index"] in (2, 3)
        for path in snapshot_paths(state):
            read_snapshot(path)  # none that is visible is damaged


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", range(CALLS))
def test_a_failing_disk_is_one_line_and_harms_nothing(
    tmp_path, learner, monkeypatch, call, code
):
    saved_at(tmp_path, learner, 2)
    before = files_below(tmp_path)
    disk = Disk(monkeypatch)
    disk.fail_at, disk.error = call, OSError(code, os.strerror(code))
    learner.step = 3
    with pytest.raises(UserError) as caught:
        save_snapshot(tmp_path, learner, {})
    monkeypatch.undo()
    message = str(caught.value)
    assert os.strerror(code) in message
    assert "step-00000003" in message
    assert "bytes" in message
    assert "\n" not in message
    after = files_below(tmp_path)
    if disk.calls[-1] == ("fsync", tmp_path.name):  # the new one is in place already
        assert newest_snapshot(tmp_path, silent).path.name == "step-00000003"
        after = {k: v for k, v in after.items() if not k.startswith("step-00000003")}
    assert after == before


def test_too_little_space_is_seen_before_anything_is_written(
    tmp_path, learner, monkeypatch
):
    saved_at(tmp_path, learner, 2)
    before = files_below(tmp_path)
    size = sum(len(before[f"step-00000002/{name}"]) for name in FILES)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
    learner.step = 3
    with pytest.raises(UserError, match=f"needs [0-9,]+ bytes.* has {size:,} free"):
        save_snapshot(tmp_path, learner, {})
    assert files_below(tmp_path) == before
    plenty = usage._replace(free=2 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plenty)
    save_snapshot(tmp_path, learner, {})


# ---- bytes that rot ------------------------------------------------------------------


def mutate(path: Path, chance: random.Random) -> None:
    """Flip one bit, cut the file short, or remove it."""
    data = bytearray(path.read_bytes())
    kind = chance.choice(["flip", "flip", "cut", "remove"])
    if kind == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
    else:
        path.unlink()


def test_every_mutant_is_detected_named_and_passed_over(tmp_path, learner):
    old, new = saved_at(tmp_path, learner, 2, 3)
    chance = random.Random(0)
    for trial in range(300):
        name = PARTS[trial % len(PARTS)]
        intact = (new / name).read_bytes()
        mutate(new / name, chance)
        said: list[str] = []
        assert newest_snapshot(tmp_path, said.append).path == old
        assert len(said) == 1
        assert f"{new} is damaged" in said[0]
        assert "trying the one before" in said[0]
        (new / name).write_bytes(intact)
    assert newest_snapshot(tmp_path, silent).path == new


def test_every_part_of_the_manifest_counts(tmp_path, learner):
    (path,) = saved_at(tmp_path, learner, 2)
    intact = (path / MANIFEST).read_bytes()
    for place in range(0, len(intact), 3):
        data = bytearray(intact)
        data[place] ^= 1
        (path / MANIFEST).write_bytes(data)
        with pytest.raises(DamagedSnapshotError):
            read_snapshot(path)


def test_the_damaged_file_is_named(tmp_path, learner):
    (path,) = saved_at(tmp_path, learner, 2)
    for name in FILES:
        intact = (path / name).read_bytes()
        (path / name).write_bytes(intact + b"x")
        with pytest.raises(DamagedSnapshotError, match=f"{name} does not match"):
            read_snapshot(path)
        (path / name).unlink()
        with pytest.raises(DamagedSnapshotError, match=f"{name}: No such file"):
            read_snapshot(path)
        (path / name).write_bytes(intact)
    (path / MANIFEST).write_bytes(b"{}")
    with pytest.raises(DamagedSnapshotError, match="does not match"):
        read_snapshot(path)


def test_if_none_is_whole_nothing_is_begun_again_in_silence(tmp_path, learner):
    assert newest_snapshot(tmp_path, silent) is None
    for path in saved_at(tmp_path, learner, 2, 3):
        (path / "state.json").write_bytes(b"")
    with pytest.raises(UserError, match=r"step-00000002 is damaged.*no other is left"):
        newest_snapshot(tmp_path, silent)


def test_a_damaged_snapshot_is_replaced_when_its_step_comes_again(tmp_path, learner):
    old, new = saved_at(tmp_path, learner, 2, 3)
    whole = (new / "model.safetensors").read_bytes()
    (new / "model.safetensors").write_bytes(whole[:-1])
    assert newest_snapshot(tmp_path, silent).path == old
    assert saved_at(tmp_path, learner, 3) == [new]
    assert newest_snapshot(tmp_path, silent).path == new
    assert sorted(tmp_path.iterdir()) == [old, new]


def test_a_whole_snapshot_of_the_same_step_is_not_written_again(tmp_path, learner):
    (path,) = saved_at(tmp_path, learner, 2)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert saved_at(tmp_path, learner, 2) == [path]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_other_names_are_not_snapshots(tmp_path, learner):
    paths = saved_at(tmp_path, learner, 2, 99_999_999, 100_000_000)
    for name in ("step-2", "step-best", "step-00000004.bak", "notes", ".tmp-7-1"):
        (tmp_path / name).mkdir()
    assert snapshot_paths(tmp_path) == paths  # by number, not by spelling
    prune(tmp_path, 1)
    assert snapshot_paths(tmp_path) == paths[-1:]


# ---- keeping house -------------------------------------------------------------------


def names(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in snapshot_paths(folder)]


def test_the_newest_and_the_best_are_kept(tmp_path, learner):
    saved_at(tmp_path, learner, 1, 2, 3, 4, 5)
    prune(tmp_path, 2, best=1)
    assert names(tmp_path) == [1, 4, 5]
    prune(tmp_path, 0)  # never none
    assert names(tmp_path) == [5]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_step_that_was_half_removed_before_can_be_removed_again(tmp_path, learner):
    """The grave of the first one is still there: it must not stand in the way."""
    first, _ = saved_at(tmp_path, learner, 1, 2)
    grave = tmp_path / f".tmp-removed-{first.name}-{os.getpid()}"
    grave.mkdir()
    (grave / "optim.safetensors").write_bytes(b"x")
    prune(tmp_path, 1)
    assert names(tmp_path) == [2]
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_removed_for_the_sake_of_a_damaged_one(tmp_path, learner):
    newest = saved_at(tmp_path, learner, 1, 2, 3, 4)[-1]
    (newest / "optim.safetensors").write_bytes(b"")
    said: list[str] = []
    prune(tmp_path, 1, say=said.append)
    assert names(tmp_path) == [1, 2, 3, 4]
    assert len(said) == 1
    assert "step-00000004 is damaged" in said[0]
    assert "keeping all older ones" in said[0]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    keep=st.integers(0, 4),
    moves=st.lists(
        st.sampled_from(
            ["save", "save", "best", "damage", "fail", "crash", "no-delete"]
        ),
        max_size=14,
    ),
)
def test_retention_never_loses_the_last_good_one(tmp_path_factory, keep, moves):
    """Random lives of a run: whatever happens, the newest good snapshot survives."""
    folder = tmp_path_factory.mktemp("kept")
    whole: set[int] = set()
    step, best = 0, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "_is_whole", Path.exists)
        patch.setattr(
            snapshot_module,
            "_read_checked",
            lambda path: _cheap_check(path, whole),
        )
        for move in moves:
            before = set(names(folder))
            if move == "damage":
                whole.discard(max(whole, default=0))
            elif move == "best":
                best = step
            elif move == "crash":
                (folder / f".tmp-{step}-9").mkdir(exist_ok=True)
            else:
                step += 1
                if move != "fail":  # a failed save leaves nothing
                    (folder / f"step-{step:08d}").mkdir()
                    whole.add(step)
                with pytest.MonkeyPatch.context() as sick:
                    if move == "no-delete":
                        sick.setattr(os, "rename", _refuse)
                    prune(folder, keep, best, silent)
            present = set(names(folder))
            if move == "save":  # nothing went wrong: what is left is exact
                newest = set(sorted(before | {step})[-max(1, keep) :])
                assert present == newest | ({best} & (before | {step}))
            elif move == "no-delete":
                assert present == before | {step}
            elif max(before, default=0) not in whole:
                assert present == before
            assert max(whole, default=None) in {*present, None}
            whole &= present
    shutil.rmtree(folder)


def _cheap_check(path: Path, whole: set[int]) -> None:
    if int(path.name.removeprefix("step-")) not in whole:
        raise DamagedSnapshotError(f"snapshot {path} is damaged")


def _refuse(*arguments, **options):
    raise OSError(errno.EACCES, "Permission denied")
