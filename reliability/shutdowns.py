"""Row 18: SIGTERM at any moment. How do those end who are in the middle of a text?

A child serves a small model on a port; clients ask it for streams and whole answers,
one after another; at a moment drawn beforehand it gets SIGTERM, now and then twice.
Promised is: every stream that has begun ends with `[DONE]` or with an error event,
every other request with an answer, 503 or no connection; the child ends by itself with
status 0, soon after the time for draining; and its port is free again.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from folio.infer.worker import Worker
from folio.serve import server
from folio.serve.app import make_app
from folio.serve.models import Catalog
from folio.serve.settings import Settings
from reliability.bodies import wrong_error
from reliability.row import Row, Tally, seeds
from reliability.service import served
from reliability.subject import replaced

CLIENTS = 4
DRAIN = (0.0, 0.2, 5.0)  # seconds; the first ends everything at once
LATE = 20.0  # seconds after draining in which the child must have ended
PATH = "/v1/completions"


def live(listener: socket.socket, drain: float, log: Path) -> None:
    """Serve in a child of ours until a signal comes."""
    status = 1
    try:
        sys.stdout = sys.stderr = log.open("w")
        model = served(max_seq_len=512, n_layers=1, d_model=16)
        with Worker(model.engine) as worker:
            settings = Settings(drain_timeout=drain)
            app = make_app(Catalog([model]), worker, settings, loopback=True)
            asyncio.run(server.run(app, listener, settings))
        status = 0
    except BaseException as error:
        log.write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(status)


class Client(threading.Thread):
    """Asks again and again; what went wrong, and how its requests ended."""

    def __init__(self, port: int, chance: random.Random):
        super().__init__(daemon=True)
        self.port, self.chance = port, chance
        self.problem: str | None = None
        self.ends: list[str] = []

    def run(self) -> None:
        while not self.problem and "no connection" not in self.ends:
            try:
                self.ask()
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"

    def ask(self) -> None:
        body = {"prompt": "Once", "max_tokens": self.chance.choice((1, 40, 400))}
        body["stream"] = self.chance.random() < 0.7
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(line):
            try:
                line.connect()
                kind = {"Content-Type": "application/json"}
                line.request("POST", PATH, json.dumps(body), kind)
                answer = line.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                self.ends.append("no connection")  # it was refused, or not yet taken
                return
            self.judge(answer.status, answer.read().decode(), body["stream"])

    def judge(self, status: int, text: str, streamed: bool) -> None:
        """How it ended."""
        if status == 200 and streamed:
            last = text.split("\n\n")[-2].removeprefix("data: ")
            if last == "[DONE]":
                self.ends.append("whole stream")
            else:
                self.ends.append("stream with an error at its end")
                self._check_error(json.loads(last))
        elif status == 200:
            json.loads(text)
            self.ends.append("whole answer")
        else:
            self.ends.append(f"status {status}")
            self._check_error(json.loads(text))
            if status != 503:
                self.problem = f"status {status}: {text[:200]}"

    def _check_error(self, values: Any) -> None:
        wrong = wrong_error(values)
        if wrong not in (None, "an error of ours"):  # 503 is one of the server's
            self.problem = wrong


def trial(home: Path, chance: random.Random) -> tuple[str | None, list[str]]:
    """What went wrong in one life of a server, and how its requests ended."""
    listener = server.listen("127.0.0.1", 0)
    port, drain, log = listener.getsockname()[1], chance.choice(DRAIN), home / "log"
    listener.listen(64)  # who comes before the child is ready waits
    child = os.fork()
    if child == 0:
        live(listener, drain, log)
    listener.close()
    clients = [Client(port, random.Random(chance.random())) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    while not any(client.ends for client in clients):  # it answers
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 1.0))
    os.kill(child, signal.SIGTERM)
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.0, 0.2))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    status = _awaited(child, drain + LATE)
    for client in clients:
        client.join(LATE)
    ends = [end for client in clients for end in client.ends]
    problems = [client.problem for client in clients if client.problem]
    problems += [f"{c.name} still waits" for c in clients if c.is_alive()]
    if status != 0:
        problems.insert(0, f"it ended with {status}; {log.read_text()[-300:]}")
    try:
        server.listen("127.0.0.1", port).close()
    except ValueError as error:
        problems.append(f"the port is taken: {error}")
    return next(iter(problems), None), [*ends, f"drained {drain:g} s"]


def _awaited(child: int, seconds: float) -> int | None:
    """The exit status of a child; None, and no child, if it lives on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def work(home: Path, seed: int, trials: int) -> Tally:
    """`trials` servers."""
    tally = Tally()
    served(max_seq_len=512, n_layers=1, d_model=16)  # so torch is warm in the children
    for number in range(trials):
        problem, kinds = trial(home, random.Random(f"{seed}-{number}"))
        tally.note(f"seed {seed}, trial {number}", problem, *kinds)
    return tally


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """It stops at once: streams end in the middle."""
    real = server.run

    async def abrupt(app: Any, listener: socket.socket, settings: Settings) -> None:
        def start(stop: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, os._exit, 0)

        await real(app, listener, settings, start)

    with replaced(server, "run", abrupt):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Two hundred servers; quick: 4."""
    return seeds(4, 4) if quick else seeds(200, 20)


def settled(tally: Tally) -> str | None:
    """Signals must have come into the middle of streams."""
    cut = tally.counts["stream with an error at its end"]
    return None if cut else "no stream was under way when the signal came"


ROW = Row(
    18,
    "shutdowns",
    "after SIGTERM every stream ends as one should, the port is free, the status 0",
    parts,
    work,
    "ends at once",
    broken,
    settled,
)
