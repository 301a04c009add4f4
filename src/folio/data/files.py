"""Documents out of files: .txt and .md, .jsonl, .parquet; read piece by piece.

Memory holds one document at a time (and of an uncut text only one piece), however
large the file. What can't be read is refused with its place, never skipped.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from folio.config import UserError

PIECE = 1 << 20  # bytes read at once
LONGEST = 1 << 28  # characters one document may have: 256 million, some 50 novels


def read_documents(
    path: Path, separator: str | None = None, field: str = "text"
) -> Iterator[str]:
    """The documents of one file, by the ending of its name.

    A text file is one document, unless `separator` says where it is to be cut
    ("\\n\\n": at blank lines). `field` is where JSONL and Parquet keep the text.
    """
    match path.suffix.lower():
        case ".jsonl":
            return read_jsonl(path, field)
        case ".parquet":
            return read_parquet(path, field)
        case _ if separator is not None:
            return split_pieces(read_pieces(path), separator)
        case _:
            return iter(["".join(read_pieces(path))])


def read_pieces(path: Path) -> Iterator[str]:
    """A text file in pieces of about a megabyte, newlines as "\\n", without a BOM.

    Raises UserError with the byte at which the file stops being UTF-8.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    with _open(path) as file:
        position = 0
        more = True
        while more:
            block = file.read(PIECE)
            more = bool(block)
            held = len(utf8.getstate()[0])  # bytes of an unfinished character
            try:
                text = utf8.decode(block, final=not more)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, position - held + error.start) from None
            if position == 0:
                text = text.removeprefix("\ufeff")
            position += len(block)
            piece = newlines.decode(text, final=not more)
            if piece:
                yield piece


def _not_utf8(path: Path, byte: int) -> UserError:
    return UserError(
        f"{path}: invalid UTF-8 at byte {byte}; convert the file, for example with"
        " `iconv -f latin1 -t utf-8`"
    )


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: can't read: {error.strerror}") from None


def split_pieces(pieces: Iterable[str], separator: str) -> Iterator[str]:
    """Cut a text that arrives in pieces at each separator, in linear time.

    Line breaks at the ends of a document are removed, and empty documents left out.

    >>> list(split_pieces(["one\\n", "\\ntwo\\n\\n\\n\\nth", "ree"], "\\n\\n"))
    ['one', 'two', 'three']
    """
    if not separator:
        raise UserError("separator = '': give the text that stands between documents")
    document: list[str] = []  # what is known of the current one
    length = 0
    held = ""  # the end of it, which may be the beginning of a separator
    for piece in pieces:
        *finished, held = (held + piece).split(separator)
        for text in finished:
            yield from _document(document, text)
            document, length = [], 0
        safe = max(0, len(held) - len(separator) + 1)
        document.append(held[:safe])
        length += safe
        held = held[safe:]
        if length > LONGEST:
            raise UserError(
                f"separator = {separator!r}: not found in {length} characters; give"
                " the one that the text has"
            )
    yield from _document(document, held)


def _document(parts: list[str], last: str) -> Iterator[str]:
    text = "".join([*parts, last]).strip("\n")
    if text:
        yield text


def read_jsonl(path: Path, field: str = "text") -> Iterator[str]:
    """The text in `field` of each line's JSON object; blank lines are passed over.

    Raises UserError naming file, line and field.
    """
    with _open(path) as file:
        position = 0
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == LONGEST:
                raise UserError(f"{where}: longer than {LONGEST} bytes; is it JSONL?")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, position + error.start) from None
            if number == 1:
                text = text.removeprefix("\ufeff")
            position += len(line)
            if text.strip():
                yield _field_of(where, text, field)


def _field_of(where: str, line: str, field: str) -> str:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"{where}: expected an object with field {field!r}, not {kind}")
    if field not in record:
        present = ", ".join(map(repr, record)) or "none"
        raise UserError(f"{where}: no field {field!r}; the record's fields: {present}")
    text = record[field]
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"{where}: field {field!r} holds {kind}, not text")
    _check_characters(where, field, text)
    return text


def _check_characters(where: str, field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: field {field!r} has half of a surrogate pair at character"
            f" {error.start}"
        ) from None


def read_parquet(path: Path, field: str = "text") -> Iterator[str]:
    """The text in column `field`, row by row; needs the extra [parquet]."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: reading Parquet needs pyarrow: pip install 'folio-llm[parquet]'"
        ) from None
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if field not in columns:
                present = ", ".join(map(repr, columns))
                raise UserError(f"{path}: no column {field!r}; it has {present}")
            for batch in file.iter_batches(batch_size=1024, columns=[field]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    if not isinstance(text, str):
                        kind = type(text).__name__
                        where = f"{path}, row {row}"
                        raise UserError(
                            f"{where}: field {field!r} holds {kind}, not text"
                        )
                    yield text
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as Parquet: {reason}") from None
