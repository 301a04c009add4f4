"""Row 15: ten times as many clients as there is room for. Who is served, and how soon?

Clients ask again and again, sooner than they are asked to. Whoever is admitted must
get a whole and right answer; whoever is not, must be told so with 429 and when to come
again, soon; `/health` must answer all the while; and when the crowd has gone, the next
request must be served at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Iterator
from typing import Any

from folio.serve.live import Desk
from folio.serve.settings import Settings
from reliability.row import Row, Tally
from reliability.service import running, served
from reliability.subject import replaced

PATH = "/v1/completions"
BATCH, WAITING = 4, 4
CLIENTS = 10 * (BATCH + WAITING)
PAUSE = 0.5  # seconds after a rejection: half of what is asked for
REJECTED, HEALTHY, RECOVERED = 0.2, 0.1, 2.0  # seconds, as the promise says
BODY = json.dumps({"prompt": "Once", "max_tokens": 20, "temperature": 0}).encode()


async def call(port: int, method: str, path: str, body: bytes = b"") -> Any:
    """(status, headers and body, seconds) of one request on a connection of its own."""
    start = time.perf_counter()
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close"
            head += "\r\nContent-Type: application/json"
            head += f"\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.read()
        finally:
            writer.transport.abort()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), rest, time.perf_counter() - start


class Crowd:
    """All that happens while it is there."""

    def __init__(self, port: int, wanted: str, tally: Tally):
        self.port, self.wanted, self.tally = port, wanted, tally
        self.rejected: list[float] = []
        self.healthy: list[float] = []

    async def client(self, number: int, end: float) -> None:
        while time.monotonic() < end:
            try:
                found = await call(self.port, "POST", PATH, BODY)
                kind, problem = self.judge(*found)
            except (OSError, TimeoutError, IndexError) as error:
                kind, problem = "lost", f"{type(error).__name__}: {error}"
            self.tally.note(f"client {number}", problem, kind)
            if kind == "rejected":
                await asyncio.sleep(PAUSE)

    def judge(
        self, status: int, head: bytes, body: bytes, seconds: float
    ) -> tuple[str, str | None]:
        """What kind of answer it was, and what is wrong with it."""
        if status == 429:
            self.rejected.append(seconds)
            told = b"retry-after: " in head and b"rate_limit_error" in body
            return "rejected", None if told else f"{head!r} {body!r}"
        if status != 200:
            return "lost", f"status {status}: {body[:200]!r}"
        text = json.loads(body)["choices"][0]["text"]
        return "served", None if text == self.wanted else f"another answer: {text!r}"

    async def physician(self, end: float) -> None:
        """Asks after its health, ten times a second."""
        while time.monotonic() < end:
            status, _, _, seconds = await call(self.port, "GET", "/health")
            self.healthy.append(seconds)
            if status != 200:
                self.tally.failures.append(f"/health says {status}")
            await asyncio.sleep(0.1)

    async def run(self, seconds: float) -> float:
        """The seconds that the next one waits, when all have gone."""
        end = time.monotonic() + seconds
        clients = [self.client(number, end) for number in range(CLIENTS)]
        await asyncio.gather(self.physician(end), *clients)
        status, *_, after = await call(self.port, "POST", PATH, BODY)
        return after if status == 200 else math.inf


def slowest(seconds: list[float], part: float) -> float:
    """All but this part are faster.

    >>> slowest([0.1, 0.4, 0.2, 0.3], 0.25)
    0.3
    """
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(len(ordered) * (1 - part)) - 1)]


def work(home: Any, seconds: float, patience: float) -> Tally:
    """So many seconds of it; limits are `patience` times those of the promise."""
    tally = Tally()
    model = served(max_seq_len=256, n_layers=1, d_model=16, max_batch=BATCH)
    settings = Settings(max_waiting=WAITING, drain_timeout=2.0)
    with running(model, settings=settings) as server:
        _, answer = server.ask(PATH, json.loads(BODY))
        crowd = Crowd(server.port, answer["choices"][0]["text"], tally)
        after = asyncio.run(crowd.run(seconds))
        found = {
            "p99 of rejections": (slowest(crowd.rejected or [0.0], 0.01), REJECTED),
            "p99 of /health": (slowest(crowd.healthy, 0.01), HEALTHY),
            "the first afterwards": (after, RECOVERED),
        }
        for name, (took, limit) in found.items():
            tally.counts[f"{name}, ms"] += int(1000 * took)
            if took > patience * limit:
                tally.failures.append(f"{name}: {took:.3f} s, promised are {limit}")
        if server.worker.faults:
            tally.failures.append(f"{server.worker.faults} faults")
        if not tally.counts["served"] or not tally.counts["rejected"]:
            tally.failures.append(f"not an overload: {dict(tally.counts)}")
    return tally


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Everybody is admitted: a queue without an end."""
    real = Desk.__init__

    def endless(self: Desk, *arguments: Any) -> None:
        real(self, *arguments)
        self.most = 1 << 30

    with replaced(Desk, "__init__", endless):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Ten minutes; quick: 1.5 seconds, on machines that do other things, too."""
    if quick:
        return {"0": {"seconds": 1.5, "patience": 20.0}}
    return {str(part): {"seconds": 60.0, "patience": 1.0} for part in range(10)}


ROW = Row(
    15,
    "overload",
    "who is one too many is told so at once; who is admitted is served",
    parts,
    work,
    "lets everybody in",
    broken,
)
