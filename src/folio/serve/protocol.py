"""uvicorn with what it leaves open: time for the head of a request, and signals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from folio.serve.settings import Settings


class Server(uvicorn.Server):
    """uvicorn's, with signals left to whoever runs it: the process ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def limited_protocol(settings: Settings) -> type[H11Protocol]:
    """HTTP/1.1 for at most so many connections, none of which may dawdle.

    uvicorn closes connections that say nothing; one that sends a letter now and then it
    would keep for ever ("slow loris").
    """

    class Limited(H11Protocol):
        timer: asyncio.TimerHandle | None = None  # runs while a head is awaited

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                transport.abort()
            else:
                self.arm()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self.disarm()
            elif self.idle and self.timer is None:
                self.arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self.disarm()
            super().connection_lost(exc)

        @property
        def idle(self) -> bool:
            """Is no request under way?"""
            return self.cycle is None or self.cycle.response_complete

        def arm(self) -> None:
            self.timer = self.loop.call_later(settings.read_timeout, self.give_up)

        def disarm(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

        def give_up(self) -> None:
            self.timer = None
            if self.idle:
                self.transport.abort()

    return Limited
