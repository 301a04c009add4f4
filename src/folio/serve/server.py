"""`folio serve`: load, listen, answer, and end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from folio.config import UserError

Say = Callable[[str], None]
GRACE = 5.0  # seconds for the last bytes, after the time for draining is over


def serve(
    runs: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    key_file: Path | None = None,
    device: str = "auto",
    memory: float | None = None,
    max_batch: int = 32,
    max_waiting: int = 256,
    request_timeout: float = 600.0,
    drain_timeout: float = 30.0,
    quiet: bool = False,
    say: Say = print,
) -> None:
    """Serve runs until SIGTERM or Ctrl-C; memory in GB, for keys and values.

    UserError for a port in use, a missing extra, a key file others can read, no run.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"folio serve needs {error.name}: pip install 'folio-llm[serve]'"
        ) from None
    from folio.infer.worker import Worker
    from folio.serve.app import make_app
    from folio.serve.models import Catalog
    from folio.serve.settings import Settings, read_keys

    settings = Settings(
        keys=read_keys(key_file) if key_file is not None else (),
        max_waiting=max_waiting,
        request_timeout=request_timeout,
        drain_timeout=drain_timeout,
    )
    listener = listen(host, port)
    with contextlib.closing(listener):
        size = None if memory is None else int(memory * 1e9)
        catalog = Catalog.load(
            runs, device=device, memory=size, max_batch=max_batch, say=say
        )
        engines = [served.engine for served in catalog]
        with Worker(*engines, say=_to_stderr) as worker:
            app = make_app(
                catalog,
                worker,
                settings,
                loopback=is_loopback(listener),
                say=None if quiet else _to_stderr,
            )
            say(f"http://{_address(listener)}/v1  (Ctrl-C stops)")
            if not settings.keys and not is_loopback(listener):
                say("anybody who can reach this port may use it; --key-file limits it")
            asyncio.run(run(app, listener, settings))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; a UserError says why it can't."""
    if not 0 <= port < 1 << 16:  # the system would take 70000 for 4464
        raise UserError(f"--port {port}: must lie from 0 (any) to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, proto, _, address = found[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)  # or two could be bound to one port
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{host}:{port}: {reason}; choose another --port") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Can only this machine reach it?"""
    return listener.getsockname()[0] in ("127.0.0.1", "::1")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run(
    app: Any,
    listener: socket.socket,
    settings: Any,
    on_start: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Answer on this socket until told to stop, then drain.

    on_start: gets the function that stops it, to be called on the event loop; without
    it, SIGINT and SIGTERM do. The second time, what is under way ends at once.
    """
    import uvicorn

    from folio.serve.protocol import Server, limited_protocol

    config = uvicorn.Config(
        app,
        http=limited_protocol(settings),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, int(settings.read_timeout)),
        timeout_graceful_shutdown=int(settings.drain_timeout + GRACE),
        backlog=2048,
    )
    server, desk = Server(config), app.state.desk
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if desk.draining:
            desk.stop()
        desk.draining = server.should_exit = True
        loop.call_later(settings.drain_timeout, desk.stop)

    if on_start is not None:
        on_start(stop)
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])
