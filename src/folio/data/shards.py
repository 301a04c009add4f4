"""A folder of shards: written at one stroke, refused unless whole, read as one text.

    FOLDER/index.json                        what belongs here, with its own sha256
    FOLDER/train-00000-1f2e3d4c.tokens       see shard_file.py; the last 8 characters
    FOLDER/validation-00000-5b6a7988.tokens  begin its sha256, so a name is never reused

Renaming `index.json` into place is the single moment at which new data replace old.
Killed before it, the folder holds the old data (or none); after it, the new.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.data.encode import Encoded, encode_documents
from folio.data.shard_file import Header, ShardWriter, map_ids, read_header, verify
from folio.data.split import Counts, label, without_repeats
from folio.data.tokens import Tokens, fingerprint_of
from folio.files import fsync_folder, in_turn
from folio.text.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 26  # about 128 MB a file with uint16
_OURS = re.compile(r"(train|validation)-\d{5,10}-[0-9a-f]{8}\.tokens")
_TEMPORARY = ".tmp-"


def write_shards(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    dedup: bool = True,
    processes: int = 1,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Encode documents into `folder` and return its index.

    Each document goes to "train" or "validation" by a hash of its text (see
    `split_of`), followed by end-of-text. The files are equal byte for byte for any
    number of `processes`. Whatever goes wrong, the folder keeps what it held before.
    """
    check_fraction(val_fraction)
    counts = Counts()
    kept = without_repeats(label(documents, val_fraction, seed), counts, dedup)
    encoded = encode_documents(kept, tokenizer, processes)
    return store(
        encoded,
        tokenizer,
        folder,
        counts=counts,
        splits=("train", "validation") if val_fraction else ("train",),
        shard_tokens=shard_tokens,
    )


def check_fraction(val_fraction: float) -> None:
    """Refuse a held-out fraction that leaves nothing to train on."""
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction = {val_fraction}: must be from 0 to below 1")


def store(
    encoded: Iterable[Encoded],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    counts: Counts,
    splits: tuple[str, ...],
    shard_tokens: int = SHARD_TOKENS,
    request: dict[str, Any] | None = None,
    first: int = 0,
) -> dict[str, Any]:
    """Write encoded text to `folder`, or keep what answers the same `request`.

    `first` is the number of the first shard of each split: a part that is to stand
    behind others begins higher.

    Of several processes that store into one folder at a time, one writes; the others
    wait, and find its work. Returns the index; `index["reused"]` tells which it was.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with in_turn(folder):
            old = read_if_whole(folder)
            if old is not None and request is not None and answers(old, request):
                return {**old, "reused": True}
            sweep(folder)
            try:
                entries = _write_files(encoded, tokenizer, folder, shard_tokens, first)
                check_splits(entries, splits, counts)
                index = {
                    "request": request,
                    "tokenizer": tokenizer.fingerprint,
                    "vocab_size": tokenizer.vocab_size,
                    "counts": asdict(counts),
                    "shards": entries,
                }
                write_index(folder, index)
            finally:
                sweep(folder)
            return {**index, "reused": False}
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: {error.strerror or error}; no shards were"
            " written"
        ) from error


def answers(index: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether these shards are what is asked for, prepared in parts or at a stroke."""
    own = index["request"]
    return own == request or (
        own is not None and {k: v for k, v in own.items() if k != "parts"} == request
    )


def _write_files(
    encoded: Iterable[Encoded],
    tokenizer: Tokenizer,
    folder: Path,
    shard_tokens: int,
    first: int,
) -> list[dict[str, Any]]:
    """One or more shards for each split; returns their entries for the index."""
    writers: dict[str, ShardWriter] = {}
    entries: list[dict[str, Any]] = []
    parts: dict[str, int] = {}

    def finish(writer: ShardWriter) -> None:
        header = writer.finish()
        name = f"{header.split}-{header.part:05d}-{header.sha256[:8]}.tokens"
        writer.path.rename(folder / name)
        entries.append({"file": name, **asdict(header)})

    try:
        for split, ids, documents, text_bytes in encoded:
            if split not in writers:
                part = parts.get(split, first)
                parts[split] = part + 1
                path = folder / f"{_TEMPORARY}{os.getpid()}-{split}-{part:05d}"
                writers[split] = ShardWriter(path, split, part, tokenizer)
            writers[split].write(ids, documents, text_bytes)
            # Between documents, so that each shard's counts are its own.
            if writers[split].tokens >= shard_tokens:
                finish(writers.pop(split))
        while writers:
            finish(writers.pop(min(writers)))
    finally:
        for writer in writers.values():
            writer.abandon()
    fsync_folder(folder)
    return sorted(entries, key=lambda entry: (entry["split"], entry["part"]))


def check_splits(entries: list[dict], splits: tuple[str, ...], counts: Counts) -> None:
    found = {entry["split"] for entry in entries if entry["tokens"]}
    for split in splits:
        if split not in found:
            raise UserError(
                f"the {split} part would be empty: {counts.documents} documents were"
                " read; give more text, cut it into more documents, or change"
                " val_fraction"
            )


def write_index(folder: Path, index: dict[str, Any]) -> None:
    sealed = {**index, "sha256": _seal(index)}
    path = folder / f"{_TEMPORARY}{os.getpid()}-index"
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(sealed, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    path.rename(folder / "index.json")
    fsync_folder(folder)


def _seal(index: dict[str, Any]) -> str:
    text = json.dumps({k: v for k, v in index.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sweep(folder: Path) -> None:
    """Remove temporary files, and shards that the index doesn't name."""
    try:
        named = {entry["file"] for entry in read_index(folder)["shards"]}
    except UserError:
        named = set()
    for path in folder.iterdir():
        shard = _OURS.fullmatch(path.name) and path.name not in named
        if shard or path.name.startswith(_TEMPORARY):
            path.unlink()


def read_if_whole(folder: Path) -> dict[str, Any] | None:
    try:
        index = read_index(folder)
        for entry in index["shards"]:
            read_entry(folder, entry)
    except UserError:
        return None
    return index


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder of shards; UserError if it is missing or damaged."""
    path = Path(folder) / "index.json"
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder}: no prepared data here (no index.json)") from None
    except ValueError:
        index = None
    if not isinstance(index, dict) or index.get("sha256") != _seal(index):
        raise UserError(f"{path}: damaged; delete the folder and prepare it again")
    return index


def read_entry(folder: Path, entry: dict[str, Any]) -> tuple[Path, Header]:
    """The header of one shard, which must be exactly the one the index names."""
    if not _OURS.fullmatch(entry["file"]):
        raise UserError(f"{folder / 'index.json'}: odd file name {entry['file']!r}")
    path = folder / entry["file"]
    header = read_header(path)
    for name, value in asdict(header).items():
        if value != entry[name]:
            raise UserError(
                f"{path}: another shard than index.json names ({name} is {value!r},"
                f" not {entry[name]!r}); delete the folder and prepare the data again"
            )
    return path, header


def open_shards(
    folder: str | Path,
    split: str = "train",
    tokenizer: Tokenizer | None = None,
    *,
    check_ids: bool = True,
) -> Tokens:
    """The tokens of one part, memory-mapped as one sequence.

    Raises UserError naming the shard (and the byte) if anything is truncated,
    damaged, missing or foreign, or was made with another tokenizer than `tokenizer`.
    `check_ids=False` leaves out reading every id (about a second per GB).
    """
    folder = Path(folder)
    index = read_index(folder)
    if tokenizer is not None and index["tokenizer"] != tokenizer.fingerprint:
        raise UserError(
            f"{folder}: made with another tokenizer (vocabulary {index['vocab_size']},"
            f" fingerprint {index['tokenizer'][:12]}) than the one given"
            f" ({tokenizer.vocab_size}, {tokenizer.fingerprint[:12]}); prepare the data"
            " again, or give the tokenizer it was made with"
        )
    entries = [entry for entry in index["shards"] if entry["split"] == split]
    if not entries:
        present = sorted({entry["split"] for entry in index["shards"]})
        raise UserError(f"{folder}: no {split!r} part; it has {', '.join(present)}")
    parts = []
    for entry in entries:
        path, header = read_entry(folder, entry)
        if check_ids:
            verify(path, header)
        parts.append(map_ids(path, header))
    return Tokens(
        parts,
        vocab_size=index["vocab_size"],
        fingerprint=fingerprint_of([entry["sha256"] for entry in entries]),
        documents=sum(entry["documents"] for entry in entries),
        text_bytes=sum(entry["text_bytes"] for entry in entries),
    )
