"""What the server allows, in one place: the limits are promises to its other users."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from folio.config import UserError

MOST_SAMPLES = 8  # n: answers to one prompt
MOST_PROMPTS = 64  # of one completion or embedding request
MOST_STOPS = 4
MOST_BIASES = 1024
SHORTEST_KEY = 16


@dataclass(frozen=True)
class Settings:
    """Limits of one server. Seconds and bytes; counts are of samples being written."""

    keys: tuple[str, ...] = ()  # none: everybody who can reach the port may ask
    max_body: int = 1 << 20
    max_waiting: int = 256  # samples that may wait for a place in the batch
    max_connections: int = 1024
    read_timeout: float = 20.0  # for the head of a request, and again for its body
    request_timeout: float = 600.0  # for an answer, waiting included
    drain_timeout: float = 30.0  # for answers under way when the server is to stop

    def __post_init__(self) -> None:
        for name in ("max_body", "max_waiting", "max_connections"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("read_timeout", "request_timeout"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} = {getattr(self, name)}: must be above 0")
        if self.drain_timeout < 0:
            raise UserError(f"drain_timeout = {self.drain_timeout}: must be 0 or more")

    def admits(self, key: str) -> bool:
        """Is this one of the keys? A wrong one takes as long as a right one."""
        given = key.encode("utf-8", "surrogateescape")
        equal = [secrets.compare_digest(given, key.encode()) for key in self.keys]
        return any(equal)


def read_keys(path: Path) -> tuple[str, ...]:
    """Keys of a file, one a line, `#` for remarks; nobody else may be able to read it.

    UserError if somebody can, if there are none, or if one is easy to guess.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"key file {path}: {reason}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"key file {path}: others can read it; chmod 600 {path}")
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise UserError(f"key file {path}: no key in it; write one a line")
    if min(map(len, keys)) < SHORTEST_KEY:
        raise UserError(
            f"key file {path}: a key of fewer than {SHORTEST_KEY} characters; make one "
            "with `openssl rand -hex 24`"
        )
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise UserError(f"key file {path}: keys are printable ASCII without spaces")
    return keys
