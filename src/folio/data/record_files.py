"""Whole records out of .jsonl, .json and .parquet files, or a dataset's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from folio.config import UserError
from folio.data.files import LONGEST, read_pieces


class Record(NamedTuple):
    """One record of a file, not judged yet."""

    where: str
    fields: Mapping[str, Any]


def read_records(path: str | Path) -> Iterator[Record]:
    """The objects in a .jsonl, .json or .parquet file, each with its place.

    Or the rows of a dataset, if `path` is one such as `hf:NAME` (see hub.py).
    """
    if str(path).startswith("hf:"):
        from folio.data.hub import HubDataset  # which needs this file

        rows = HubDataset.parse(str(path)).records()
        return (Record(where, fields) for where, fields in rows)
    path = Path(path).expanduser()
    match path.suffix.lower():
        case ".jsonl":
            return _read_lines(path)
        case ".json":
            return _read_list(path)
        case ".parquet":
            return _read_rows(path)
        case ending:
            raise UserError(
                f"{path}: can't read records from {ending or 'a file without ending'!r}"
                "; known endings: .jsonl .json .parquet"
            )


def _read_lines(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield Record(where, _object(where, _parse(where, line)))


def _lines(path: Path) -> Iterator[str]:
    held = ""
    for piece in read_pieces(path):
        *lines, held = (held + piece).split("\n")
        if len(held) > LONGEST:
            raise UserError(
                f"{path}: a line of over {LONGEST} characters; is it JSONL?"
            )
        yield from lines
    if held:
        yield held


def _read_list(path: Path) -> Iterator[Record]:
    records = _parse(str(path), "".join(read_pieces(path)))
    if not isinstance(records, list):
        raise UserError(
            f"{path}: expected a list of records, not {kind_of(records)}; if there is"
            " one on each line, name the file .jsonl"
        )
    for number, record in enumerate(records, 1):
        where = f"{path}, record {number}"
        yield Record(where, _object(where, record))


def _read_rows(path: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: reading Parquet needs pyarrow: pip install 'folio-llm[parquet]'"
        ) from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}, row {number}", row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as Parquet: {reason}") from None


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None


def _object(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where}: expected an object with fields, not {kind_of(value)}"
        )
    return value


def kind_of(value: Any) -> str:
    """How a user would call this value's type."""
    return "null" if value is None else type(value).__name__
