"""Row 8: token files that are cut, altered, exchanged or not what they say.

A folder of shards is written and then damaged in one of the ways below. Promised is:
opening it (or, where only the context decides, making a stream of it) is refused with
one line that names the file, and the byte where there is one to name. Damaged on the
disk is one thing; a header that was signed again, as by a faulty program, another. And
a run whose shards are others than at its snapshot is not resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from folio.config import UserError
from folio.data import encode, open_shards, write_shards
from folio.data import shards as shards_module
from folio.data.shard_file import HEADER_BYTES, Header, read_header
from folio.data.shards import read_index
from folio.data.text import TextStream
from folio.text.byte import ByteTokenizer
from reliability.disk import Subject
from reliability.row import Row, Tally, seeds
from reliability.subject import instant_disk, replaced

STORIES = [f"Story {n}: a fox met {n * n} hens.\n" * (n % 5 + 1) for n in range(120)]


class WideTokenizer(ByteTokenizer):
    """Bytes in a vocabulary that needs 32 bits."""

    name = "wide"
    vocab_size = 70_000


TOKENIZERS = (ByteTokenizer(), WideTokenizer())


# ---- damage: (folder, its shards, chance) -> what the message must say ---------------

Damage = Callable[[Path, list[Path], random.Random], list[str]]


def cut(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    """Cut anywhere: in the header, between ids, amid an id."""
    path = chance.choice(files)
    data = path.read_bytes()
    size = chance.choice([chance.randrange(HEADER_BYTES), chance.randrange(len(data))])
    path.write_bytes(data[:size])
    return [path.name, str(size)]


def lengthened(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    data = path.read_bytes() + chance.randbytes(chance.randrange(1, 9))
    path.write_bytes(data)
    return [path.name, str(len(data))]


def flipped(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return [path.name]


def exchanged(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    """Two shards of one part in each other's place: swapped order."""
    one, other = sorted(chance.sample(files, 2))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return [".tokens"]


def missing(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    path.unlink()
    return [path.name]


def emptied(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    path.write_bytes(b"")
    return [path.name, "byte 0"]


def foreign(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    """A shard of other data under the same name."""
    other = folder.parent / "other"
    stories = [story.swapcase() for story in STORIES]
    write_shards(stories, TOKENIZERS[0], other, val_fraction=0, shard_tokens=3000)
    path = chance.choice(files)
    shutil.copy(chance.choice(sorted(other.glob("*.tokens"))), path)
    shutil.rmtree(other)
    return [path.name]


def index_altered(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = folder / "index.json"
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return ["index.json"]


def id_too_large(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    """An id that no vocabulary has, as from a faulty program: all sums are right."""
    path = chance.choice(files)
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    place = chance.randrange(len(ids))
    ids[place] = header.vocab_size + chance.randrange(100)
    sign(folder, path, header, ids, max_id=header.vocab_size - 1)
    return [path.name, str(HEADER_BYTES + place * ids.itemsize)]


def largest_id_admitted(
    folder: Path, files: list[Path], chance: random.Random
) -> list[str]:
    """The same, and the header says so."""
    path = chance.choice(files)
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    ids[chance.randrange(len(ids))] = header.vocab_size
    sign(folder, path, header, ids, max_id=header.vocab_size)
    return [path.name, str(header.vocab_size)]


def wrong_dtype(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    others = {"uint8", "int16", "uint16", "uint32", "int64", "float16"} - {header.dtype}
    dtype = chance.choice(sorted(others))
    sign(folder, path, header, ids.astype(dtype), dtype=dtype)
    return [path.name]


def wrong_count(folder: Path, files: list[Path], chance: random.Random) -> list[str]:
    path = chance.choice(files)
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    tokens = header.tokens + chance.choice([-1, 1, 1000, -header.tokens])
    sign(folder, path, header, ids, tokens=tokens)
    return [path.name]


def wrong_vocabulary(
    folder: Path, files: list[Path], chance: random.Random
) -> list[str]:
    """A vocabulary of another width than the ids have."""
    path = chance.choice(files)
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    other = 300 if header.dtype == "uint32" else 70_000
    sign(folder, path, header, ids, vocab_size=other)
    return [path.name]


def sign(
    folder: Path, path: Path, header: Header, ids: np.ndarray, **changes: Any
) -> None:
    """Write a shard whose sums are right, and an index that agrees."""
    sha256 = hashlib.sha256(ids.tobytes()).hexdigest()
    header = dataclasses.replace(header, sha256=sha256, **changes)
    path.write_bytes(header.pack() + ids.tobytes())
    index = read_index(folder)
    for entry in index["shards"]:
        if entry["file"] == path.name:
            entry |= dataclasses.asdict(header)
    index["sha256"] = shards_module._seal(index)
    (folder / "index.json").write_text(json.dumps(index))


DAMAGES: tuple[Damage, ...] = (
    cut,
    lengthened,
    flipped,
    exchanged,
    missing,
    emptied,
    foreign,
    index_altered,
    id_too_large,
    largest_id_admitted,
    wrong_dtype,
    wrong_count,
    wrong_vocabulary,
)


# ---- trials --------------------------------------------------------------------------


def work(home: Path, seed: int, trials: int) -> Tally:
    """Damage of each kind in turn; then shorter texts than contexts; then resuming."""
    chance, tally = random.Random(seed), Tally()
    # Small blocks, so that a few kilobytes of text make several shards.
    with instant_disk(), replaced(encode, "_BLOCK", 2000):
        for number, tokenizer in enumerate(TOKENIZERS):
            write_shards(
                STORIES,
                tokenizer,
                home / f"whole-{number}",
                val_fraction=0,
                shard_tokens=3000,
            )
        for trial in range(trials):
            kind = DAMAGES[trial % len(DAMAGES)]
            which = chance.randrange(len(TOKENIZERS))
            folder = home / "shards"
            shutil.copytree(home / f"whole-{which}", folder)
            said = kind(folder, sorted(folder.glob("*.tokens")), chance)
            problem = refused(lambda f=folder: open_shards(f), said)
            tally.note(
                f"seed {seed}, trial {trial}, {kind.__name__}", problem, "refused"
            )
            shutil.rmtree(folder)
        short_texts(home, tally, chance)
        changed_since(home, tally)
    return tally


def refused(action: Callable[[], Any], said: list[str]) -> str | None:
    """What is wrong with how `action` is refused; None: nothing."""
    try:
        action()
    except UserError as error:
        lacking = [word for word in said if word not in str(error)]
        if lacking or "\n" in str(error):
            return f"the message lacks {lacking}: {error}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it was accepted"


def short_texts(home: Path, tally: Tally, chance: random.Random) -> None:
    """Texts of fewer tokens than a window needs."""
    for length in (1, 5, 40):
        folder = home / f"short-{length}"
        text = "x" * chance.randrange(1, length + 1)
        write_shards([text], TOKENIZERS[0], folder, val_fraction=0)
        tokens = open_shards(folder)
        action = lambda t=tokens: TextStream(t, batch=1, length=len(t))  # noqa: E731
        tally.note(f"a text of {len(tokens)}", refused(action, [str(len(tokens))]))


def changed_since(home: Path, tally: Tally) -> None:
    """Whole shards, but of another text than the run's snapshots have seen."""
    subject = Subject(home)
    for number, change in enumerate((_another_text, _shards_of_another_run)):
        run = home / f"changed-{number}"
        shutil.copytree(subject.begun, run)
        with change(home, run):
            status, said = subject.command(run)
        problem = None
        if status != 2 or "can't resume the data" not in said:
            problem = f"status {status}: {said[-200:]!r}"
        tally.note(f"resumed on changed shards, {number}", problem, "not resumed")


@contextlib.contextmanager
def _another_text(home: Path, run: Path) -> Iterator[None]:
    text = home / "tale.txt"
    old, times = text.read_text(), text.stat()
    text.write_text(old.replace("hens", "eggs", 1))
    yield
    text.write_text(old)
    os.utime(text, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if untouched


@contextlib.contextmanager
def _shards_of_another_run(home: Path, run: Path) -> Iterator[None]:
    """The first id is another, and everything is signed again."""
    path = sorted((run / "shards").glob("train-*"))[0]
    header = read_header(path)
    ids = np.fromfile(path, header.dtype, offset=HEADER_BYTES)
    ids[0] = (ids[0] + 1) % header.max_id
    sign(run / "shards", path, header, ids)
    yield


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Headers are checked, ids are not read."""
    with replaced(shards_module, "verify", lambda path, header: None):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Five hundred and twenty mutants, 40 of each kind; quick: 26."""
    return seeds(26, 26) if quick else seeds(520, 130)


ROW = Row(
    8,
    "shards",
    "a shard that is not exactly what its header and the index say is refused by name, "
    "and so is one that has changed since the snapshot",
    parts,
    work,
    "does not read the ids when it opens shards",
    broken,
)
