"""What tests of the server share: a real one on a port, with small random models."""

import asyncio
import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from engines import model_of
from folio.infer.engine import Engine
from folio.infer.worker import Worker
from folio.serve.app import make_app
from folio.serve.live import Desk
from folio.serve.models import Catalog, Served
from folio.serve.server import is_loopback, listen, run
from folio.serve.settings import Settings
from folio.text.byte import ByteTokenizer


def served(name: str = "tiny", *, chats: bool = True, seed: int = 0, **changes):
    """A random model that reads bytes."""
    tokenizer = ByteTokenizer()
    options = {"vocab_size": tokenizer.vocab_size, "max_seq_len": 256}
    engine = {k: changes.pop(k) for k in ("max_batch", "memory") if k in changes}
    model = model_of(seed, **(options | changes))
    return Served(name, model, tokenizer, Engine(model, tokenizer, **engine), chats)


@dataclass
class Running:
    """A server on a port of this machine."""

    host: str
    port: int
    catalog: Catalog
    worker: Worker
    desk: Desk
    thread: threading.Thread
    stop: object = None
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str, body=None, *, key: str | None = None, raw=None, **headers):
        """(status, decoded body) of one request."""
        data = raw if raw is not None else None
        if body is not None:
            data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, _decode(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decode(error.read())

    def stream(self, path: str, body) -> list:
        """The data of all events of a stream."""
        data = json.dumps(body | {"stream": True}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            lines = response.read().decode().split("\n\n")
        events = [line.removeprefix("data: ") for line in lines if line]
        return [e if e == "[DONE]" else json.loads(e) for e in events]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20)

    def is_empty(self) -> bool:
        """Is nothing under way, and all memory free?"""
        engines = [s.engine.status() for s in self.catalog]
        busy = sum(e["running"] + e["waiting"] + e["pages_used"] for e in engines)
        return not busy and not self.desk.under_way


def _decode(data: bytes):
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


@contextlib.contextmanager
def running(*models: Served, settings: Settings | None = None):
    """Serve these models (one tiny one by default) as long as the block lasts."""
    settings = settings or Settings(drain_timeout=2.0)
    catalog = Catalog(models or [served()])
    listener, log = listen("127.0.0.1", 0), []
    with Worker(*(s.engine for s in catalog), say=log.append) as worker:
        app = make_app(
            catalog,
            worker,
            settings,
            loopback=is_loopback(listener),
            say=log.append,
        )
        started, stopper = threading.Event(), []

        async def main() -> None:
            loop = asyncio.get_running_loop()

            def on_start(stop) -> None:
                stopper.append(lambda: loop.call_soon_threadsafe(stop))
                started.set()

            await run(app, listener, settings, on_start)

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        host, port = listener.getsockname()[:2]
        thread.start()
        try:
            assert started.wait(10)
            yield Running(
                host, port, catalog, worker, app.state.desk, thread, stopper[0], log
            )
        finally:
            with contextlib.suppress(RuntimeError):  # it has stopped already
                stopper[0]()
            thread.join(20)
            listener.close()
            assert not thread.is_alive(), "the server did not stop"
