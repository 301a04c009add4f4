"""uvicorn with what it leaves open: time for the head of a request, and signals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from folio.serve.errors import ApiError, Json
from folio.serve.settings import Settings


class Server(uvicorn.Server):
    """uvicorn's, with signals left to whoever runs it: the process ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Limited(H11Protocol):
    """HTTP/1.1 for at most so many connections, none of which may dawdle.

    uvicorn closes connections that say nothing; it would keep for ever one that sends a
    letter now and then ("slow loris"), or that never reads what it was sent.
    """

    settings: Settings
    timer: asyncio.TimerHandle | None = None  # runs while a head is awaited
    unread: asyncio.TimerHandle | None = None  # runs while too much is to be sent

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
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
        self.resume_writing()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.timer is None:
            self.arm()  # for the last bytes

    def pause_writing(self) -> None:
        super().pause_writing()
        abort = self.transport.abort
        self.unread = self.loop.call_later(self.settings.read_timeout, abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # a close would wait until all is read

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.idle:
            self.transport.abort()  # an answer is half out
            return
        body = Json(ApiError(400, msg).body()).body
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    @property
    def idle(self) -> bool:
        """Is no request under way?"""
        return self.cycle is None or self.cycle.response_complete

    def arm(self) -> None:
        self.timer = self.loop.call_later(self.settings.read_timeout, self.give_up)

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def give_up(self) -> None:
        self.timer = None
        if self.idle:
            self.transport.abort()


def limited_protocol(settings: Settings) -> type[Limited]:
    """The protocol with these limits; uvicorn makes one for each connection."""
    return type("Limited", (Limited,), {"settings": settings})
