"""Ctrl-C and SIGTERM: finish the step, save, leave."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and has saved itself."""


class StopRequest:
    """Whether somebody has asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one kills as usual."""
    request = StopRequest()
    old = {}

    def ask(number: int, frame: object) -> None:
        request.requested = True
        for each, handler in old.items():
            signal.signal(each, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
