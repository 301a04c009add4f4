"""What every request passes first: a key, a sane size, a limited time. And the log."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from folio.serve.errors import ApiError
from folio.serve.metrics import Metrics
from folio.serve.settings import Settings

OPEN = "/health"  # the one route that needs no key
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Refuses what can be refused by the head of a request, before anything is read."""

    def __init__(self, app: ASGIApp, settings: Settings, loopback: bool = False):
        """loopback: it listens on this machine only, so that is what it's called by."""
        self.app, self.settings, self.loopback = app, settings, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _check(self, scope: Scope) -> None:
        headers = {k.lower(): v.decode("latin-1") for k, v in scope["headers"]}
        settings = self.settings
        if settings.keys and scope["path"] != OPEN:
            scheme, _, key = headers.get(b"authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not settings.admits(key.strip()):
                message = "no key, or a wrong one: Authorization: Bearer KEY"
                raise ApiError(401, message, code="invalid_api_key")
        self._check_host(headers.get(b"host", ""))
        if scope["method"] == "POST":
            kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise ApiError(415, "Content-Type must be application/json")
            length = headers.get(b"content-length", "0")
            if length.isdigit() and int(length) > settings.max_body:
                raise _too_large(settings)

    def _check_host(self, host: str) -> None:
        """A web page may have its own name lead here: its calls, without a key, end."""
        if self.settings.keys or not self.loopback:
            return
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in LOOPBACK:
            message = f"Host {host[:100]!r}: this server is called {LOOPBACK[0]}"
            raise ApiError(403, message)

    def _limited(self, receive: Receive) -> Receive:
        """The body, as long as it is not too long and comes soon enough."""
        settings, read, ended = self.settings, 0, False
        end = time.monotonic() + settings.read_timeout

        async def limited() -> Message:
            nonlocal read, ended
            if ended:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                ended = True
                raise ApiError(408, "the body did not come in time") from None
            read += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if read > settings.max_body:
                ended = True
                raise _too_large(settings)
            return message

        return limited


def _too_large(settings: Settings) -> ApiError:
    return ApiError(413, f"the body is larger than {settings.max_body:,} bytes")


class Log:
    """One line of JSON for each request, and the metrics of it.

    It tells of times and sizes; never of keys, prompts or answers.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, say: Callable[[str], None] | None
    ):
        self.app, self.metrics, self.say = app, metrics, say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, size, failure = time.perf_counter(), 0, 0, ""

        async def counted(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except Exception as error:  # a mistake of ours, of which clients learn nothing
            failure = traceback.format_exc()
            if status:
                raise  # so that the connection is closed
            answer = ApiError(500, f"an error of ours: {type(error).__name__}")
            await answer.response()(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.count_request(route, status, seconds)
            if self.say is not None and (route != OPEN or failure):
                self.say(_line(scope, status, size, seconds, failure))


def _line(scope: Scope, status: int, size: int, seconds: float, failure: str) -> str:
    """ASCII, so that nothing in a path can move a cursor or begin a new line."""
    client = (scope.get("client") or ("", 0))[0]
    entry: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "client": client,
        "request": f"{scope['method']} {scope['path']}"[:200],
        "status": status,  # 0: the client left before there was one
        "bytes": size,
        "seconds": round(seconds, 4),
    }
    return json.dumps(entry | ({"failure": failure} if failure else {}))
