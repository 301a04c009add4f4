"""The studio as a whole: built, and served until Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from folio.config import UserError
from folio.studio.state import Studio
from folio.viz.color import style_sheet
from folio.viz.markup import Markup, tag

if TYPE_CHECKING:
    import gradio as gr

HERE = Path(__file__).parent


def build(
    runs: Sequence[Path] = (), root: Path = Path("runs"), studio: Studio | None = None
) -> gr.Blocks:
    """The whole page, for these runs and those under `root`."""
    import_gradio()
    from folio.studio.page import build_page

    return build_page(studio or Studio(runs, root))


@cache
def head() -> str:
    """What goes into the page's head: colors, views, the studio's own, and scripts.

    The sheet of the views is nested below `.views`, so that it can't touch Gradio's
    own parts.
    """
    views, tip, views_script, own, own_script = map(_text, _assets())
    style = f"{style_sheet()}.views {{\n{views}\n}}\n{tip}\n{own}"
    script = f"(() => {{\n{views_script}\n{own_script}}})();"
    return str(tag("style", Markup(style)) + tag("script", Markup(script)))


def _assets() -> list[Path]:
    viz = HERE.parent / "viz"
    shared = [viz / "views.css", viz / "tip.css", viz / "views.js"]
    return [*shared, HERE / "studio.css", HERE / "studio.js"]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def import_gradio():
    """Gradio, or one line that says how to get it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio looks
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError(
            "the studio needs the package gradio: pip install 'folio-llm[studio]'"
        ) from None
    return gradio


def launch(
    runs: Sequence[Path] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    root: Path = Path("runs"),
    device: str = "auto",
    preferences: Path = Path("preferences.jsonl"),
) -> None:
    """`folio studio`: serve the page until Ctrl-C, then leave nothing running."""
    import_gradio()
    from folio.studio.server import listen, serve

    socket = listen(host, port)  # first: a port in use is known at once
    studio = Studio(runs, root, device=device, preferences=preferences)
    try:
        serve(build(studio=studio), socket, host)
    finally:
        studio.close()
