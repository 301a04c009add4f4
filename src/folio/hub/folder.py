"""Reading a model's folder that a stranger made, without running or trusting anything.

Nothing of it is executed, and each claim is checked against the bytes before memory is
taken for it. Which files are read: JSON under fixed names, `chat_template.jinja` as
text, and safetensors. Rules:

* A file is a regular file of the folder itself. A link is followed only to a regular
  file inside the folder, or inside `blobs` of the same repository in a Hugging Face
  cache (`.../models--A--B/snapshots/REVISION/FILE` -> `.../blobs/HASH`).
* JSON is limited in size and in the number of its values, has no key twice, no NaN,
  no number of more than 40 digits.
* A shard is named by a plain file name ending in `.safetensors`.
* The tensors of a safetensors file lie end to end and cover its data exactly; none is
  in two files; their sizes follow from shape and type.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from folio.config import UserError

MEGABYTE = 1 << 20
LARGEST = {  # bytes; Gemma's tokenizer has 33 MB
    "tokenizer.json": 64 * MEGABYTE,
    "vocab.json": 16 * MEGABYTE,
    "model.safetensors.index.json": 32 * MEGABYTE,
}
LARGEST_OTHER = 2 * MEGABYTE
LONGEST_NUMBER = 40  # digits; a length without limit is written as 10**30
MOST_VALUES = 8_000_000  # commas and brackets of one JSON text
LARGEST_HEADER = 32 * MEGABYTE
MOST_DIMENSIONS = 8
MOST_SHARDS = 1000
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.safetensors")


class ModelFolder:
    """A folder as `save_pretrained` writes it, read with suspicion.

    Every method raises UserError, one line, for what is missing or wrong.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder")
        self.digests: dict[str, str] = {}  # sha256 of the small files read

    def has(self, name: str) -> bool:
        """Is there anything under that name? (`open` says whether it can be read.)"""
        return os.path.lexists(self.path / name)

    def open(self, name: str) -> IO[bytes]:
        """A regular file of this folder; see the rules above."""
        path = self.path / name
        try:
            real = Path(os.path.realpath(path, strict=True))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: can't be read: {reason}") from None
        if not any(real.is_relative_to(place) for place in self._allowed()):
            raise UserError(f"{path}: is a link to {real}, outside of the folder")
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for ever
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            handle = os.open(real, flags)
        except OSError as error:
            raise UserError(f"{path}: can't be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise UserError(f"{path}: is not a regular file")
        return os.fdopen(handle, "rb")

    def _allowed(self) -> Iterator[Path]:
        here = Path(os.path.realpath(self.path))
        yield here
        if here.parent.name == "snapshots":
            yield here.parent.parent / "blobs"

    def read_text(self, name: str, largest: int = LARGEST_OTHER) -> str:
        """A small text file in UTF-8."""
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise UserError(
                    f"{self.path / name}: {size:,} bytes are more than such a file "
                    f"may have ({largest:,})"
                )
            data = file.read(largest)
        self.digests[name] = hashlib.sha256(data).hexdigest()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path / name}: not UTF-8 at byte {error.start}"
            ) from None

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        largest = LARGEST.get(name, LARGEST_OTHER)
        return strict_json(self.read_text(name, largest), str(self.path / name))

    def read_json_if_any(self, name: str) -> dict[str, Any]:
        """The same; empty if there is no such file."""
        return self.read_json(name) if self.has(name) else {}

    def weights(self) -> Weights:
        """All tensors, from one file or from the shards that the index names."""
        if self.has(INDEX):
            return Weights(self, _read_index(self))
        if self.has(SINGLE):
            return Weights(self, {SINGLE: None})
        others = [p.name for p in self.path.glob("*.bin")] + [
            p.name for p in self.path.glob("*.pt*")
        ]
        if others:
            raise UserError(
                f"{self.path}: has {min(others)!r}, a pickle, which can run code when "
                "it is read; convert it to model.safetensors where you trust it"
            )
        raise UserError(f"{self.path}: has no {SINGLE} and no {INDEX}")


def strict_json(text: str, where: str) -> dict[str, Any]:
    """Parse an object with no key twice, no NaN or huge number, not too much in it."""
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise UserError(f"{where}: has more than {MOST_VALUES:,} values")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_key_twice,
            parse_constant=_no_constant,
            parse_int=_no_huge_number,
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object")
    return value


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise UserError(f"the key {twice!r} comes twice")
    return table


def _no_huge_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise UserError(f"the number {digits[:20]}... is too large")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise UserError(f"{name} is no JSON number")


def _read_index(folder: ModelFolder) -> dict[str, set[str] | None]:
    """The shards that the index names, each with the tensors it is to hold."""
    where = folder.path / INDEX
    names = folder.read_json(INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{where}: has no table 'weight_map'")
    shards: dict[str, set[str]] = {}
    for tensor, shard in names.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise UserError(
                f"{where}: {tensor!r} is in {shard!r}, which is no plain file name "
                "ending in .safetensors"
            )
        shards.setdefault(shard, set()).add(tensor)
    if len(shards) > MOST_SHARDS:
        raise UserError(f"{where}: names {len(shards)} shards, more than {MOST_SHARDS}")
    for shard in shards:
        if not folder.has(shard):
            raise UserError(f"{where}: names {shard!r}, which is not there")
    return shards


# safetensors


class Place(NamedTuple):
    """Where a tensor lies: which file, from which byte on, and what it is."""

    shard: str
    start: int
    size: int  # bytes
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass
class Weights:
    """The tensors of a folder by name, each read when it is asked for.

    Every header is read and checked when this is made, no tensor is.
    """

    folder: ModelFolder
    shards: dict[str, set[str] | None]

    def __post_init__(self) -> None:
        self.places: dict[str, Place] = {}
        for shard, wanted in self.shards.items():
            with self.folder.open(shard) as file:
                found = read_header(file, str(self.folder.path / shard), shard)
            for name in found:
                if name in self.places:
                    raise UserError(
                        f"{self.folder.path / shard}: tensor {name!r} is in "
                        f"{self.places[name].shard}, too"
                    )
            if wanted is not None and wanted != found.keys():
                name = min(wanted ^ found.keys())
                has, says = (
                    ("lacks", "has") if name in wanted else ("has", "does not have")
                )
                raise UserError(
                    f"{self.folder.path / shard}: {has} tensor {name!r}, which the "
                    f"index says it {says}"
                )
            self.places |= found

    def keys(self) -> Iterator[str]:
        return iter(self.places)

    def get(self, name: str) -> torch.Tensor:
        """One tensor, read into memory of its own."""
        if name not in self.places:
            raise UserError(f"{self.folder.path}: has no tensor {name!r}")
        place = self.places[name]
        tensor = torch.empty(place.shape, dtype=place.dtype)
        with self.folder.open(place.shard) as file:
            file.seek(place.start)
            buffer = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
            if place.size and file.readinto(buffer) != place.size:
                raise UserError(f"{self.folder.path / place.shard}: ends too early")
        return tensor

    def digests(self) -> dict[str, str]:
        """sha256 of each file of weights."""
        digests = {}
        for shard in self.shards:
            with self.folder.open(shard) as file:
                digests[shard] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests

    @property
    def parameters(self) -> int:
        """How many numbers there are in all."""
        return sum(math.prod(place.shape) for place in self.places.values())

    @property
    def dtype(self) -> torch.dtype:
        """The type of the largest tensor."""
        if not self.places:
            raise UserError(f"{self.folder.path}: the files hold no tensor")
        return max(self.places.values(), key=lambda place: place.size).dtype


def read_header(file: IO[bytes], where: str, shard: str) -> dict[str, Place]:
    """The places of all tensors of one open safetensors file, checked.

    The layout (https://github.com/huggingface/safetensors): eight bytes with the
    length of the header, little-endian; the header, a JSON object of name -> dtype,
    shape and data_offsets; the data.
    """
    total = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(LARGEST_HEADER, total - 8):
        raise UserError(f"{where}: no safetensors file: its header is {length:,} bytes")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{where}: the header is not UTF-8") from None
    table = strict_json(text, f"{where}, header")
    _check_metadata(table.pop("__metadata__", {}), where)
    places = {
        name: _read_place(entry, f"{where}: tensor {name!r}", shard, 8 + length)
        for name, entry in table.items()
    }
    end = 8 + length
    for name, place in sorted(places.items(), key=lambda item: item[1][1:3]):
        if place.start != end:
            kind = "overlaps the one before" if place.start < end else "leaves a hole"
            raise UserError(f"{where}: tensor {name!r} {kind} it")
        end = place.start + place.size
    if end != total:
        raise UserError(f"{where}: {end:,} bytes expected, {total:,} are there")
    return places


def _check_metadata(metadata: Any, where: str) -> None:
    texts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: __metadata__ must hold texts")


def _read_place(entry: Any, where: str, shard: str, data: int) -> Place:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UserError(f"{where}: must have dtype, shape and data_offsets only")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(f"{where}: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    numbers = [shape, offsets]
    if not all(isinstance(n, list) and all(map(_is_size, n)) for n in numbers):
        raise UserError(f"{where}: shape and data_offsets must be whole numbers >= 0")
    if len(shape) > MOST_DIMENSIONS or len(offsets) != 2:
        raise UserError(f"{where}: {len(shape)} dimensions, {len(offsets)} offsets")
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise UserError(
            f"{where}: {end - start:,} bytes can't be {tuple(shape)} of {dtype}"
        )
    return Place(shard, data + start, end - start, DTYPES[dtype], tuple(shape))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
