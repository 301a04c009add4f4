"""Verbs that put models in people's hands: a server and a studio."""

from __future__ import annotations

import argparse
from pathlib import Path

from folio.cli.parser import Verbs, add_verb, given


def add_serving(verbs: Verbs) -> None:
    """serve, studio."""
    text = "answer programs, by the API of OpenAI"
    serve = add_verb(verbs, "serve", text, _serve)
    serve.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of runs, or NAME=FOLDER"
    )
    serve.add_argument("--host", default="127.0.0.1", help="who may reach it")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--key-file", type=Path, help="keys, one a line, mode 600")
    serve.add_argument("--memory", type=float, help="GB for keys and values")
    serve.add_argument(
        "--max-batch", type=int, default=32, help="texts written at once"
    )
    serve.add_argument("--max-waiting", type=int, default=256, help="then: 429")
    serve.add_argument(
        "--request-timeout", type=float, default=600.0, help="seconds for an answer"
    )
    serve.add_argument(
        "--drain-timeout", type=float, default=30.0, help="seconds, after SIGTERM"
    )
    serve.add_argument("--quiet", action="store_true", help="no line per request")
    serve.add_argument("--device", default="auto")
    text = "look inside models, train and chat, in a browser"
    studio = add_verb(verbs, "studio", text, _studio)
    studio.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    studio.add_argument(
        "--root", type=Path, default=Path("runs"), help="where runs are"
    )
    studio.add_argument("--host", default="127.0.0.1", help="who may reach it")
    studio.add_argument("--port", type=int, default=7860)
    studio.add_argument(
        "--preferences",
        type=Path,
        default=Path("preferences.jsonl"),
        help="where thumbs are kept, for `folio dpo`",
    )
    studio.add_argument("--device", default="auto")


def _serve(options: argparse.Namespace) -> None:
    from folio.serve.server import serve

    names = ("host", "port", "key_file", "device", "memory", "max_batch")
    names += ("max_waiting", "request_timeout", "drain_timeout", "quiet")
    serve(options.runs, **given(options, names))


def _studio(options: argparse.Namespace) -> None:
    from folio.studio.app import launch

    names = ("host", "port", "root", "device", "preferences")
    launch(options.runs, **given(options, names))
