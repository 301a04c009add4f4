"""Serving the page: on this machine alone unless told, and asking nobody else.

A policy in every answer forbids the browser to fetch anything from elsewhere, whatever
a model has written. Gradio's routes for files are closed: the studio takes and gives
none.
"""

from __future__ import annotations

import contextlib
import re
import socket

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from folio.config import UserError
from folio.studio.app import head
from folio.studio.theme import make_theme

LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 1 << 20  # of one request
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; frame-src 'none'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
CLOSED = re.compile(
    r"(?:/gradio_api)?/(?:upload|file[=/]|stream/|proxy|component_server|"
    r"custom_component|process_recording|deep_link|login|monitoring|vibe|dev|openapi)"
)


def listen(host: str, port: int) -> socket.socket:
    """A socket of ours at that address, or a UserError that says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ours = socket.socket(family, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        ours.bind((host, port))
        ours.listen(128)
    except (OSError, OverflowError) as error:
        ours.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")
        raise UserError(
            f"can't serve at {host}:{port}: {reason}; choose another --port"
        ) from None
    return ours


class Guard:
    """Closes what isn't needed, limits what is sent, and adds the policy."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if status := refused(scope):
            await _answer(send, status)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, _limited(receive), guarded)


def refused(scope: Scope) -> int:
    """The status with which a request is turned away; 0 if it may come in."""
    if CLOSED.match(scope["path"]):
        return 404
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return 413 if not length.isdigit() or int(length) > MOST_BYTES else 0


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _limited(receive: Receive) -> Receive:
    """No more than MOST_BYTES, whatever a request said of its length."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return limited


def make_app(blocks: gr.Blocks, host: str, port: int) -> FastAPI:
    """The page as an application of its own, guarded."""
    undocumented = dict.fromkeys(("docs_url", "redoc_url", "openapi_url"))
    app = FastAPI(**undocumented)
    names = ("pwa", "run_history", "ssr_mode", "mcp_server", "enable_monitoring")
    closed = {**dict.fromkeys(names, False), "footer_links": [], "show_error": False}
    files = {"allowed_paths": [], "max_file_size": 1}
    address = {"server_name": host, "server_port": port, "app_kwargs": undocumented}
    look = {"theme": make_theme(), "head": head()}
    app = gr.mount_gradio_app(app, blocks, "/", **closed, **files, **address, **look)
    app.add_middleware(Guard)
    if host in LOCAL:  # a page from elsewhere can't reach us under a name of its own
        hosts = ["127.0.0.1", "localhost", "[::1]"]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return app


def serve(blocks: gr.Blocks, ours: socket.socket, host: str) -> None:
    """Until Ctrl-C or SIGTERM."""
    port = ours.getsockname()[1]
    config = uvicorn.Config(
        make_app(blocks, host, port),
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"the studio is open at http://{shown}:{port}   (Ctrl-C closes it)")
    if host not in LOCAL:
        print("note: whoever reaches this address can use the runs, and train others")
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to close it
        uvicorn.Server(config).run(sockets=[ours])
