"""A large corpus prepared by many processes, on one machine or several.

    FOLDER/part-00003-of-00016/   what one process makes: a folder of shards like any
    FOLDER/*.tokens, index.json   what `merge_parts` leaves: all of them, in order

Processes share a file system, and nothing else. A part is a function of the corpus,
the options and `parts`; one that is there already is kept. So it does not matter who
prepares which part, when, or how often: the folder is the same, byte for byte.

Repeated documents are dropped within each part, since to know those of other parts the
processes would have to talk. What is held out is decided by each document's own text,
so no document is in both train and validation, whatever part it is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.data.corpora import Corpus
from folio.data.prepare import encode_corpus, request_of, splits_of
from folio.data.shards import (
    SHARD_TOKENS,
    answers,
    check_splits,
    read_entry,
    read_if_whole,
    read_index,
    store,
    sweep,
    write_index,
)
from folio.data.split import Counts
from folio.files import fsync_folder, in_turn
from folio.text.tokenizer import Tokenizer

MOST_PARTS = 10_000
MOST_SHARDS = 10_000  # of a part and split: so far apart are the numbers of two parts


def prepare_part(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: str | Path,
    part: int,
    parts: int,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    dedup: bool = True,
    processes: int = 1,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Make sure that part `part` (from 0) of `parts` is there; return its index.

    `index["reused"]` tells whether it was, alone or merged with the others. The
    options are those of `prepare`.
    """
    check_part(part, parts)
    options = {"val_fraction": val_fraction, "seed": seed, "dedup": dedup}
    request = request_of(corpus, tokenizer, shard_tokens=shard_tokens, **options)
    request |= {"parts": parts}
    merged = read_if_whole(Path(folder))
    if merged is not None and answers(merged, request):
        return {**merged, "reused": True}
    counts = Counts()
    own = corpus.part(part, parts)
    return store(
        encode_corpus(own, tokenizer, counts, processes=processes, **options),
        tokenizer,
        part_folder(folder, part, parts),
        counts=counts,
        splits=(),  # a small part may have nothing to hold out
        shard_tokens=shard_tokens,
        request={**request, "part": part},
        first=part * MOST_SHARDS,
    )


def check_part(part: int, parts: int) -> None:
    """Raise a UserError for a part that there isn't."""
    if not 1 <= parts <= MOST_PARTS:
        raise UserError(f"parts = {parts}: must lie in 1..{MOST_PARTS}")
    if not 0 <= part < parts:
        raise UserError(f"part = {part}: must lie in 0..{parts - 1}, of {parts} parts")


def part_folder(folder: str | Path, part: int, parts: int) -> Path:
    """
    >>> part_folder("shards", 3, 16).name
    'part-00003-of-00016'
    """
    return Path(folder) / f"part-{part:05d}-of-{parts:05d}"


def merge_parts(folder: str | Path, parts: int) -> dict[str, Any]:
    """Make one folder of shards out of its parts, and return its index.

    Killed at whatever moment, it can be run again: files move one by one, and are
    looked for in both places; the index is renamed into place when all are there.
    UserError that names the parts that are missing, or don't belong together.
    """
    check_part(0, parts)
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no parts here; prepare them first")
    folders = [part_folder(folder, part, parts) for part in range(parts)]
    with in_turn(folder):
        index = read_if_whole(folder)
        reused = index is not None and _is_merged(index, folders)
        if not reused:
            index = _merged(folder, _indexes(folders))
            for own, entry in _places(folders):
                if (own / entry["file"]).is_file():
                    (own / entry["file"]).rename(folder / entry["file"])
            for entry in index["shards"]:
                read_entry(folder, entry)
            fsync_folder(folder)
            write_index(folder, index)
            sweep(folder)
        for own in folders:
            _remove(own)
    return {**index, "reused": reused}


def _is_merged(index: dict[str, Any], folders: list[Path]) -> bool:
    """Whether what is left of the parts, if anything, is in this index already."""
    request = index["request"] or {}
    if request.get("parts") != len(folders):
        return False
    for part, own in enumerate(folders):
        try:
            if read_index(own)["request"] != {**request, "part": part}:
                return False
        except UserError:
            if own.is_dir() and any(own.iterdir()):
                return False  # somebody may be at work there
    return True


def _remove(own: Path) -> None:
    """Remove what a part has left, its index last: till then it is known."""
    if own.is_dir():
        for path in sorted(own.iterdir(), key=lambda path: path.name == "index.json"):
            path.unlink()
        own.rmdir()


def _indexes(folders: list[Path]) -> list[dict[str, Any]]:
    """The index of each part; a UserError names those that can't be read."""
    found, missing = [], []
    for own in folders:
        try:
            found.append(read_index(own))
        except UserError:
            missing.append(own.name)
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"{folders[0].parent}: {', '.join(missing[:5])}{more} not prepared yet"
        )
    return found


def _merged(folder: Path, indexes: list[dict[str, Any]]) -> dict[str, Any]:
    """One index of many, in which shards keep the order of their parts."""
    requests = [dict(index["request"]) for index in indexes]
    for part, request in enumerate(requests):
        if request.pop("part") != part or request != requests[0]:
            raise UserError(
                f"{folder}: part {part} was prepared from other text or with other "
                "options than part 0; prepare it again"
            )
    total: Counter[str] = Counter()
    for part, index in enumerate(indexes):
        total.update(index["counts"])
        if any(own["part"] >= (part + 1) * MOST_SHARDS for own in index["shards"]):
            raise UserError(
                f"{folder}: part {part} has over {MOST_SHARDS} shards; prepare the "
                "text in more parts"
            )
    entries = [entry for index in indexes for entry in index["shards"]]
    counts = {name: total[name] for name in indexes[0]["counts"]}
    check_splits(entries, splits_of(requests[0]["val_fraction"]), Counts(**counts))
    return {
        "request": requests[0],
        "tokenizer": indexes[0]["tokenizer"],
        "vocab_size": indexes[0]["vocab_size"],
        "counts": counts,
        "shards": sorted(entries, key=lambda entry: (entry["split"], entry["part"])),
    }


def _places(folders: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for own in folders:
        for entry in read_index(own)["shards"]:
            yield own, entry
