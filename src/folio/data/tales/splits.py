"""Seeds, and which facts and wordings may be trained on.

Two independent hashes keep evaluation honest. A hash of the *facts* (who is in the
story, which numbers are sorted) sends an example to one split for ever, so that no
seed can leak a held-out story into training. A hash of the *wording* (a composed
paraphrase before its operands are filled in) keeps an eighth of all wordings unseen.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from typing import Literal, get_args

from folio.config import UserError, nearest

Split = Literal["train", "validation", "test"]
SPLITS = get_args(Split)


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"split = {split!r}{nearest(split, SPLITS)}")


def generator(*path: int | str) -> random.Random:
    """An independent generator for each path of names and numbers.

    >>> generator(1, "train", 5).random() == generator(1, "train", 5).random()
    True
    >>> generator(1, "train", 5).random() == generator(1, "train", 6).random()
    False
    """
    digest = hashlib.sha256("/".join(map(str, path)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def split_of(*facts: object) -> Split:
    """The one split that these facts belong to: 80 % train, 10 % each of the others.

    >>> split_of("sort", "7 3 9") == split_of("sort", "7 3 9")
    True
    """
    bucket = zlib.crc32(repr(facts).encode()) % 10
    return "validation" if bucket == 0 else "test" if bucket == 1 else "train"


def is_held_out(task: str, wording: str) -> bool:
    """Whether a wording is kept for evaluation (one in eight)."""
    return zlib.crc32(f"{task}: {wording}".encode()) % 8 == 0
