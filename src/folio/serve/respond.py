"""Answers that are worked out while they are sent.

Everything from admission to the last byte happens in one call, so that one `finally`
frees what a request holds, however it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from folio.serve.answers import Answers, Object
from folio.serve.errors import ApiError, Json, to_json
from folio.serve.live import Desk, Live
from folio.serve.metrics import Metrics

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # proxies pass each event on at once
}
DONE = b"data: [DONE]\n\n"


class Answering(Response):
    """The response to a chat or a completion, whole or as a stream of events."""

    def __init__(self, answers: Answers, desk: Desk, metrics: Metrics):
        super().__init__()
        self.answers, self.asked = answers, answers.asked
        self.desk, self.metrics = desk, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            live = self.desk.admit(self.asked)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        try:
            async with watching(receive, live):
                if self.asked.stream:
                    await self._stream(live, send)
                else:
                    await self._whole(live, scope, receive, send)
        finally:
            live.close()
            self.metrics.count_tokens(self.asked.served.name, live.usage)

    async def _whole(
        self, live: Live, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            async for _ in self._timed(live):
                pass
            response: Response = Json(self.answers.whole(live))
        except ApiError as error:
            response = error.response()
        await response(scope, receive, send)

    async def _stream(self, live: Live, send: Send) -> None:
        """Server-sent events; an error is the last one, for the status is out."""
        headers = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def put(data: bytes) -> None:  # who doesn't read: see protocol.py
            body = {"type": "http.response.body", "body": data, "more_body": True}
            await send(body)

        try:
            for piece in self.answers.first():
                await put(as_event(piece))
            async for events in self._timed(live):
                pieces = (self.answers.piece(*each) for each in events)
                if data := b"".join(as_event(p) for p in pieces if p is not None):
                    await put(data)
            if self.asked.usage:
                await put(as_event(self.answers.usage(live)))
            await put(DONE)
        except ApiError as error:
            await put(as_event(error.body()))
        await send({"type": "http.response.body", "body": b""})

    async def _timed(self, live: Live) -> AsyncIterator[list[tuple[int, Any]]]:
        """The events; how long the first one took is noted."""
        start, waiting = time.perf_counter(), True
        async for events in live.events():
            if waiting:
                self.metrics.first_token.observe(time.perf_counter() - start)
                waiting = False
            yield events


@asynccontextmanager
async def watching(receive: Receive, live: Live) -> AsyncIterator[None]:
    """Stop the work when the client leaves; the body has been read before."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        live.stop("the client has left")

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


def as_event(piece: Object) -> bytes:
    """One server-sent event."""
    return f"data: {to_json(piece)}\n\n".encode()
