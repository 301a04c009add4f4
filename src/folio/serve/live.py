"""Requests under way, seen from an event loop.

The engine's thread calls `notify`; the loop is woken and takes what has come. Whatever
happens to the one who waits, `close` frees the pages: it is called in a `finally` that
begins before the first `await`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from folio.config import UserError
from folio.infer.request import Completion, Event, Handle
from folio.infer.worker import Worker
from folio.serve.asking import Asked
from folio.serve.errors import ApiError, in_one_line
from folio.serve.settings import Settings


class Desk:
    """Where requests are let in: how many, and until when.

    All of it runs on the event loop.
    """

    def __init__(self, worker: Worker, settings: Settings):
        self.worker, self.settings = worker, settings
        self.most = settings.max_waiting + worker.engines[0].max_batch
        self.under_way: set[Live] = set()
        self.jobs = 0  # texts that are being read, or wait for it
        self.draining = False

    @property
    def samples(self) -> int:
        """How many are being written, or wait for it."""
        return sum(live.asked.samples for live in self.under_way)

    def admit(self, asked: Asked) -> Live:
        """Put it before the engine; an ApiError if there are too many already.

        Whoever gets it calls `close` in the end.
        """
        self.check()
        if self.under_way and self.samples + asked.samples > self.most:
            raise _full(f"{self.samples} texts are being written or wait")
        live = Live(asked, self)
        self.under_way.add(live)
        try:
            live.submit()
        except BaseException as error:
            live.close()
            if isinstance(error, UserError):
                raise _refused(error) from None
            raise
        return live

    def check(self) -> None:
        """An ApiError if the server is about to stop, or can't work any more."""
        if self.draining or not self.worker.alive:
            raise ApiError(503, "the server is shutting down", code="shutting_down")

    async def call(self, job: Any) -> Any:
        """What `job` returns, run where the models are. As many may wait as texts."""
        self.check()
        if self.jobs >= self.most:
            raise _full(f"{self.jobs} texts wait to be read")
        self.jobs += 1
        seconds = self.settings.request_timeout
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self.worker.call(job))
        except TimeoutError:
            message = f"not done after {seconds:g} seconds"
            raise ApiError(408, message, code="timeout") from None
        finally:
            self.jobs -= 1

    def stop(self) -> None:
        """End all that is under way, each with an error that says why."""
        for live in list(self.under_way):
            live.stop("the server is shutting down")


class Live:
    """What was asked by one body, and what has come of it."""

    def __init__(self, asked: Asked, desk: Desk):
        self.asked, self.desk = asked, desk
        self.handles: list[Handle] = []
        self.reason: str | None = None  # why it was stopped from here
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._end = self._loop.time() + desk.settings.request_timeout

    def submit(self) -> None:
        """Hand the requests to the engine."""
        worker, engine = self.desk.worker, self.asked.served.engine
        for request in self.asked.requests:
            self.handles.append(worker.submit(request, self._notify, engine))

    def _notify(self, handle: Handle) -> None:
        """Called by other threads."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def events(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """What has come, in pieces: the number of the sample, and the event.

        An ApiError when a sample fails, or when it takes too long.
        """
        done = False
        while not done:
            self._news.clear()
            done = all(handle.done for handle in self.handles)
            found = [
                (number * handle.request.n + event.index, event)
                for number, handle in enumerate(self.handles)
                for event in handle.take()
            ]
            for _, event in found:
                self._check(event)
            if found:
                yield found
            elif not done:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout_at(self._end):
                await self._news.wait()
        except TimeoutError:
            seconds = self.desk.settings.request_timeout
            self.stop(f"not done after {seconds:g} seconds")
            raise ApiError(408, self.reason, code="timeout") from None

    def _check(self, event: Event) -> None:
        if event.refused:
            raise ApiError(400, in_one_line(event.error))
        if event.finish == "error":
            raise ApiError(500, f"the model failed: {event.error}", code="engine_error")
        if event.finish == "cancelled":
            raise ApiError(503, self.reason or "cancelled", code="cancelled")

    def stop(self, reason: str) -> None:
        """End what hasn't ended; whoever waits is told why."""
        self.reason = reason
        for handle in self.handles:
            handle.cancel()

    def close(self) -> None:
        """Free everything; may be called again."""
        for handle in self.handles:
            handle.cancel()
        self.desk.under_way.discard(self)

    @property
    def completions(self) -> list[Completion]:
        """All samples, in order."""
        return [c for handle in self.handles for c in handle.completions]

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens read and written; each prompt counts once."""
        first = [handle.completions[0] for handle in self.handles]
        read = sum(c.prompt_tokens for c in first)
        written = sum(len(c.ids) for c in self.completions)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }


def _full(message: str) -> ApiError:
    headers = {"Retry-After": "1"}
    return ApiError(
        429, f"{message}; ask again later", code="overloaded", headers=headers
    )


def _refused(error: UserError) -> ApiError:
    """What the engine would never serve."""
    code = "context_length_exceeded" if "max_seq_len" in str(error) else None
    return ApiError(400, in_one_line(error), code=code)
