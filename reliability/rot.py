"""Row 3: bits rot, files are cut, blocks are lost. Is it noticed, and is nothing read?

Of two snapshots the newer is damaged in one file. Promised is: it is refused, the
damaged file is named, and the older one is taken. A manifest is the one file that can
be damaged so that it accuses another: then any name counts.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio.training import snapshot as snapshots
from folio.training.snapshot import newest_snapshot, save_snapshot
from reliability.row import Row, Tally, seeds
from reliability.subject import instant_disk, learn, replaced, small_learner
from reliability.subject import small_stream as stream_of

Damage = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, chance: random.Random) -> bytes:
    """One bit."""
    damaged = bytearray(data)
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end is gone, maybe all of it."""
    return data[: chance.randrange(len(data))]


def lengthen(data: bytes, chance: random.Random) -> bytes:
    """Something stands behind the end."""
    return data + chance.randbytes(chance.randrange(1, 600))


def empty_block(data: bytes, chance: random.Random) -> bytes:
    """One block of 512 bytes was never written."""
    start = 512 * chance.randrange(-(-len(data) // 512))
    block = data[start : start + 512]
    damaged = data[:start] + bytes(len(block)) + data[start + 512 :]
    return damaged if damaged != data else flip(data, chance)


def exchange(data: bytes, chance: random.Random) -> bytes:
    """Two stretches have changed places: no byte is lost, no length changes."""
    width = chance.randrange(1, max(2, len(data) // 8))
    first = chance.randrange(0, len(data) // 2 - width + 1)
    second = chance.randrange(len(data) // 2, len(data) - width + 1)
    damaged = bytearray(data)
    damaged[first : first + width] = data[second : second + width]
    damaged[second : second + width] = data[first : first + width]
    return bytes(damaged) if bytes(damaged) != data else flip(data, chance)


DAMAGE: dict[str, Damage | None] = {
    "flipped bit": flip,
    "cut short": cut,
    "longer": lengthen,
    "lost block": empty_block,
    "exchanged": exchange,
    "from the older one": None,
    "missing": None,
}


def work(home: Path, seed: int, trials: int, width: int) -> Tally:
    """Mutants of every file in turn."""
    chance, tally = random.Random(seed), Tally()
    learner, stream = small_learner(width), stream_of()
    paths = []
    with instant_disk():
        for _ in range(2):
            learn(learner, stream, 1)
            paths.append(save_snapshot(home, learner, {"at": stream.state_dict()}))
    old, new = paths
    names = sorted(path.name for path in new.iterdir())
    for trial in range(trials):
        name = names[trial % len(names)]
        kind = chance.choices(list(DAMAGE), (8, 4, 1, 2, 2, 1, 1))[0]
        intact = (new / name).read_bytes()
        damage(old / name, new / name, kind, chance)
        if (new / name).exists() and (new / name).read_bytes() == intact:
            flipped = flip(intact, chance)
            (new / name).write_bytes(flipped)
        problem = noticed(home, old, new, name)
        where = f"width {width}, seed {seed}, trial {trial}, {name} {kind}"
        tally.note(where, problem, kind, name)
        (new / name).write_bytes(intact)
    return tally


def damage(old: Path, path: Path, kind: str, chance: random.Random) -> None:
    """Damage one file; the same file of an older snapshot is whole, but not its own."""
    if kind == "missing":
        path.unlink()
    elif kind == "from the older one":
        path.write_bytes(old.read_bytes())
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes(), chance))


def noticed(folder: Path, old: Path, new: Path, name: str) -> str | None:
    """What is wrong with how a damaged `new` is met; None: nothing."""
    said: list[str] = []
    try:
        found = newest_snapshot(folder, said.append)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if found is None or found.path != old:
        return "the damage was not noticed"
    if len(said) != 1 or str(new) not in said[0] or "\n" in said[0]:
        return f"not one line that names the snapshot: {said}"
    if name not in said[0] and name != snapshots.MANIFEST:
        return f"another file is named: {said[0]}"
    return None


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Sizes are compared, contents are not."""
    real = snapshots._manifest

    def sizes_only(files: dict[str, bytes]) -> bytes:
        return real({name: bytes(len(data)) for name, data in files.items()})

    with replaced(snapshots, "_manifest", sizes_only):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Ten thousand mutants of two sizes; quick: 200."""
    if quick:
        return seeds(200, 200, width=8)
    small, larger = seeds(8000, 1000, width=8), seeds(2000, 500, width=96)
    return {f"8-{k}": v for k, v in small.items()} | {
        f"96-{k}": v for k, v in larger.items()
    }


ROW = Row(
    3,
    "rot",
    "every byte of a snapshot is covered by a checksum; a damaged one is named and "
    "passed over",
    parts,
    work,
    "compares sizes, not contents",
    broken,
)
