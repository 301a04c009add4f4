"""Row 14: clients who leave at any moment. Is anything left behind?

Clients ask a real server over sockets, again and again, for streams and whole answers,
one text or more; every second one hangs up at a moment drawn beforehand: before its
request is whole, while it waits, while its prompt is read, in the middle of its text or
near the end. The others must get what they get alone. Afterwards pages, requests,
tasks, threads and files must be as before, and memory must not have grown with the
number of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

from folio.serve.live import Live
from folio.serve.settings import Settings
from reliability.row import Row, Tally, seeds
from reliability.service import running, served
from reliability.subject import replaced

PATH = "/v1/completions"
MOMENTS = ("connected", "half a request", "asked", "reading", "near the end")
SECONDS = 0.1  # beyond a step, in which what is left must be free
GROWTH = 1 << 20  # bytes for 1,000 requests


def body_of(chance: random.Random) -> dict[str, Any]:
    """What one client asks for: short or long, by chance or not."""
    prompt = "Once upon a time " * 6
    prompt = prompt[: chance.choice((1, 17, 40, 96))]
    body = {"prompt": prompt, "seed": chance.randrange(4)}
    body |= {"max_tokens": chance.choice((1, 5, 20)), "n": chance.choice((1, 1, 2))}
    return body | {"stream": chance.random() < 0.5}


class Client:
    """Asks, and may leave before it has heard all."""

    def __init__(self, server: Any, chance: random.Random):
        self.server, self.chance = server, chance
        self.body = body_of(chance)
        self.moment = chance.choice(MOMENTS) if chance.random() < 0.5 else "stayed"

    async def run(self) -> str | None:
        """What went wrong; leaving is not wrong."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            return await self._ask(reader, writer)
        finally:
            writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str | None:
        if self.moment == "connected":
            return None
        data = json.dumps(self.body).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        request = head.encode() + data
        if self.moment == "half a request":
            writer.write(request[: self.chance.randrange(len(request))])
            await writer.drain()
            return None
        writer.write(request)
        await writer.drain()
        if self.moment == "asked":
            await asyncio.sleep(self.chance.choice((0, 0.01, 0.1)))
            return None
        if self.moment != "stayed":
            most = 10 if self.moment == "reading" else 2000
            await reader.read(self.chance.randrange(1, most))
            return None
        answer = await reader.read()
        return self._wrong(answer)

    def _wrong(self, answer: bytes) -> str | None:
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return f"{answer[:300]!r}"
        if self.body["stream"]:
            return None if b"data: [DONE]\n\n" in rest else f"it ends {rest[-99:]!r}"
        wanted = self.server.alone(self.body)
        found = [choice["text"] for choice in json.loads(rest)["choices"]]
        return None if found == wanted else f"{found} instead of {wanted}"


class Known:
    """A server, and what it answers to each body alone."""

    def __init__(self, server: Any):
        self.server, self.port = server, server.port
        self.answers: dict[str, list[str]] = {}

    def alone(self, body: dict[str, Any]) -> list[str]:
        key = json.dumps(body)
        if key not in self.answers:
            _, answer = self.server.ask(PATH, body | {"stream": False})
            self.answers[key] = [choice["text"] for choice in answer["choices"]]
        return self.answers[key]


def held() -> dict[str, int]:
    """What this process holds; a pool of threads may fill up to its size."""
    names = [thread.name for thread in threading.enumerate()]
    return {
        "threads": sum(not name.startswith("asyncio_") for name in names),
        "files": len(os.listdir("/proc/self/fd")),
    }


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _crowd(
    known: Known, seed: int, trials: int, clients: int, tally: Tally
) -> None:
    """So many clients at a time, `trials` in all."""
    numbers = iter(range(trials))

    async def one_after_another() -> None:
        for number in numbers:
            client = Client(known, random.Random(f"{seed}-{number}"))
            try:
                async with asyncio.timeout(60):
                    problem = await client.run()
            except (TimeoutError, OSError) as error:
                problem = f"{type(error).__name__}: {error}"
            where = f"seed {seed}, trial {number}, {client.moment}, {client.body}"
            tally.note(where, problem, client.moment)

    await asyncio.gather(*(one_after_another() for _ in range(clients)))


def emptied(server: Any) -> str | None:
    """What is still held a step and a little later."""
    steps = server.worker.steps
    end = time.monotonic() + SECONDS
    while not server.is_empty():
        if time.monotonic() > end and server.worker.steps > steps + 1:
            status = [s.engine.status() for s in server.catalog]
            return f"{len(server.desk.under_way)} requests and {status} are left"
        if time.monotonic() > end + 3:
            return f"{len(server.desk.under_way)} requests are left, and nothing moves"
        time.sleep(0.005)
    return None


def work(home: Any, seed: int, trials: int, clients: int) -> Tally:
    """`trials` requests of so many clients to one server."""
    tally = Tally()
    model = served(max_seq_len=256, n_layers=1, d_model=16, max_batch=8)
    settings = Settings(max_waiting=1000, drain_timeout=2.0)
    with running(model, settings=settings) as server:
        known = Known(server)
        for body in map(body_of, map(random.Random, range(20))):
            known.alone(body)  # so that all is warm
        asyncio.run(_crowd(known, seed + 1000, 2 * clients, clients, Tally()))
        _settle(server)
        before, memory = held(), resident()
        del server.log[:]
        asyncio.run(_crowd(known, seed, trials, clients, tally))
        problems = [emptied(server)]
        if problems == [None]:
            _settle(server)
        if (after := held()) != before:
            problems.append(f"{after} instead of {before}")
        del server.log[:]
        grown = resident() - memory
        tally.counts["grown, KB"] += grown // 1024
        if grown > 8 * GROWTH + GROWTH * trials / 1000:
            problems.append(f"{grown:,} bytes more after {trials} requests")
        if server.worker.faults:
            problems.append(f"{server.worker.faults} faults")
        for problem in filter(None, problems):
            tally.failures.append(f"seed {seed}, afterwards: {problem}")
    return tally


def _settle(server: Any) -> None:
    """Until the last connections are gone."""
    for _ in range(100):
        if server.is_empty() and _connections(server.port) == 0:
            return
        time.sleep(0.02)


def _connections(port: int) -> int:
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file][1:]
    return sum(w[1].endswith(f":{port:04X}") and w[3] in ("01", "08") for w in lines)


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Who has left keeps a place at the desk."""

    def leaky(self: Live) -> None:
        for handle in self.handles:
            handle.cancel()
        if self.reason is None:
            self.desk.under_way.discard(self)

    with replaced(Live, "close", leaky):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """48,000 requests of 64 clients, half of them cancelled; quick: 60 of 8."""
    if quick:
        return seeds(60, 60, clients=8)
    return seeds(48_000, 4000, clients=64)


def settled(tally: Tally) -> str | None:
    """Clients must have left at every moment."""
    missing = [moment for moment in MOMENTS if not tally.counts[moment]]
    return f"nobody left when {missing}" if missing else None


ROW = Row(
    14,
    "cancels",
    "whoever leaves, whenever, leaves nothing behind, and disturbs nobody",
    parts,
    work,
    "keeps a place at the desk for who has left",
    broken,
    settled,
)
