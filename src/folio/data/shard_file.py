"""One shard: a file of token ids behind a header that says what they are.

    bytes 0-1023   the header, plain text (`head -c 1024 FILE` shows it):
                   "FOLIO TOKENS 1", JSON padded with spaces, sha256 of all before it
    bytes 1024-    the ids, uint16 or uint32, little-endian, ready to be memory-mapped

A language model trains on wrong ids without complaint, only worse. So every byte is
covered by a checksum, and a shard that is not exactly what its header says is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from folio.config import UserError
from folio.data.tokens import token_dtype
from folio.text.tokenizer import Tokenizer

MAGIC = b"FOLIO TOKENS "
VERSION = 1
HEADER_BYTES = 1024
_DIGEST_AT = HEADER_BYTES - 65  # 64 hexadecimal digits and a newline
_REMEDY = "delete the folder and prepare the data again"


@dataclass(frozen=True)
class Header:
    """What a shard holds; `sha256` is that of the ids, `part` its place in `split`."""

    split: str
    part: int
    dtype: str
    vocab_size: int
    tokenizer: str
    tokens: int
    documents: int
    text_bytes: int
    max_id: int
    sha256: str

    def pack(self) -> bytes:
        """The header as its 1,024 bytes."""
        text = MAGIC + f"{VERSION}\n".encode() + json.dumps(asdict(self)).encode()
        if len(text) >= _DIGEST_AT:
            raise UserError(f"shard header of {len(text)} bytes: {_DIGEST_AT - 1} fit")
        text = text.ljust(_DIGEST_AT - 1) + b"\n"
        return text + hashlib.sha256(text).hexdigest().encode() + b"\n"


class ShardWriter:
    """Write one shard to `path`, which must be a temporary name.

    The header needs the counts and the checksum, so it is written last, over zeros:
    a file that was cut short never has a valid one.
    """

    def __init__(self, path: Path, split: str, part: int, tokenizer: Tokenizer):
        self.path, self.split, self.part, self.tokenizer = path, split, part, tokenizer
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.tokens = self.documents = self.text_bytes = self.max_id = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 (closed by finish)
        self._file.write(bytes(HEADER_BYTES))

    def write(self, ids: np.ndarray, documents: int, text_bytes: int) -> None:
        """Append ids of the shard's type, and count the text they stand for."""
        assert ids.dtype == self.dtype, ids.dtype
        payload = np.ascontiguousarray(ids).tobytes()
        self._file.write(payload)
        self._hash.update(payload)
        self.tokens += len(ids)
        self.documents += documents
        self.text_bytes += text_bytes
        self.max_id = max(self.max_id, int(ids.max(initial=0)))

    def finish(self) -> Header:
        """Write the header, flush everything to the disk and close."""
        header = Header(
            split=self.split,
            part=self.part,
            dtype=self.dtype.name,
            vocab_size=self.tokenizer.vocab_size,
            tokenizer=self.tokenizer.fingerprint,
            tokens=self.tokens,
            documents=self.documents,
            text_bytes=self.text_bytes,
            max_id=self.max_id,
            sha256=self._hash.hexdigest(),
        )
        self._file.seek(0)
        self._file.write(header.pack())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return header

    def abandon(self) -> None:
        """Close and remove the unfinished file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """The header, after every check that needs no look at the ids.

    Raises UserError that names the file, and the byte where that makes sense.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path}: shard is missing; {_REMEDY}") from None
    if not head.startswith(MAGIC) and not MAGIC.startswith(head):
        raise UserError(f"{path}: not a Folio shard (starts with {head[:8]!r})")
    if len(head) < HEADER_BYTES:
        raise UserError(
            f"{path}: truncated at byte {size}, inside the header of {HEADER_BYTES}"
            f" bytes; {_REMEDY}"
        )
    header = _parse(path, head)
    expected = HEADER_BYTES + header.tokens * np.dtype(header.dtype).itemsize
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise UserError(
            f"{path}: {what}: {size} bytes where {header.tokens} ids of"
            f" {header.dtype} need {expected}; {_REMEDY}"
        )
    return header


def _parse(path: Path, head: bytes) -> Header:
    text, digest = head[:_DIGEST_AT], head[_DIGEST_AT:]
    first_line, _, rest = text.partition(b"\n")
    version = first_line.removeprefix(MAGIC).decode("ascii", "replace")
    if version != str(VERSION):
        raise UserError(
            f"{path}: shard format {version[:8]!r}, but this Folio reads {VERSION};"
            f" {_REMEDY}"
        )
    if hashlib.sha256(text).hexdigest().encode() + b"\n" != digest:
        raise UserError(
            f"{path}: header damaged (bytes 0 to {HEADER_BYTES - 1} don't match their"
            f" checksum); {_REMEDY}"
        )
    try:
        values = json.loads(rest)
        types = {field.name: field.type for field in fields(Header)}
        if {name: type(value).__name__ for name, value in values.items()} != types:
            raise ValueError
        header = Header(**values)
    except (ValueError, AttributeError):
        raise UserError(f"{path}: header has the wrong fields; {_REMEDY}") from None
    dtype = token_dtype(header.vocab_size).name
    if header.dtype != dtype:
        raise UserError(
            f"{path}: dtype {header.dtype!r} where a vocabulary of"
            f" {header.vocab_size} has {dtype!r}; {_REMEDY}"
        )
    if header.max_id >= header.vocab_size:
        raise UserError(
            f"{path}: holds id {header.max_id}, outside its vocabulary of"
            f" {header.vocab_size}; {_REMEDY}"
        )
    return header


def map_ids(path: Path, header: Header) -> np.ndarray:
    """The ids as a read-only memory map: (tokens,) uint16 or uint32."""
    dtype = token_dtype(header.vocab_size)
    if header.tokens == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r", offset=HEADER_BYTES, shape=(header.tokens,))


def verify(path: Path, header: Header, block: int = 1 << 20) -> None:
    """Read all ids and compare with the header: about a second per GB.

    Raises UserError naming the file and, for an id above the largest, its byte.
    """
    dtype = token_dtype(header.vocab_size)
    digest = hashlib.sha256()
    reason = ""
    with open(path, "rb") as file:  # not the map: its pages would count as our memory
        file.seek(HEADER_BYTES)
        while len(ids := np.fromfile(file, dtype, block)) and not reason:
            digest.update(ids)
            if int(ids.max()) > header.max_id:
                place = int(np.argmax(ids > header.max_id))
                byte = file.tell() - (len(ids) - place) * dtype.itemsize
                reason = f"id {ids[place]} at byte {byte} is above {header.max_id}"
    if not reason and digest.hexdigest() != header.sha256:
        end = HEADER_BYTES + header.tokens * dtype.itemsize
        reason = f"its ids (bytes {HEADER_BYTES} to {end - 1}) don't match their sha256"
    if reason:
        raise UserError(f"{path}: damaged: {reason}; {_REMEDY}")
