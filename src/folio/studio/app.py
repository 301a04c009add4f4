"""The page: a head with the run that is looked at, and a tab for each view."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from folio.config import UserError
from folio.studio.state import Studio
from folio.viz.color import style_sheet
from folio.viz.markup import Markup, tag

if TYPE_CHECKING:
    import gradio as gr

HERE = Path(__file__).parent
TABS = (
    "tokens",
    "attention",
    "next_token",
    "layers",
    "experts",
    "training",
    "compare",
    "chat",
)
MOST_AT_ONCE = 16  # callbacks of one kind
MOST_WAITING = 256


def build(
    runs: Sequence[Path] = (), root: Path = Path("runs"), studio: Studio | None = None
) -> gr.Blocks:
    """The whole page, for these runs and those under `root`."""
    gr = import_gradio()
    from folio.studio.tabs.common import QUIET, Page, view

    studio = studio or Studio(runs, root)
    names = list(studio.runs.found())
    first = names[0] if names else None
    with gr.Blocks(title="Folio studio", analytics_enabled=False) as blocks:
        with gr.Row(elem_classes=["studio-head"]):
            view(_mark(), elem_classes=["studio-mark"])
            run = gr.Dropdown(
                names,
                value=first,
                show_label=False,
                container=False,
                elem_classes=["studio-run"],
                elem_id="run",
            )
            view(_switch(), elem_classes=["studio-switch"])
        about = view(studio.about(first))
        page = Page(studio, run, gr.State("Tokens"))
        with gr.Tabs():
            for name in TABS:
                import_module(f"folio.studio.tabs.{name}").build(page)

        def found(chosen: str | None) -> gr.Dropdown:
            names = list(studio.runs.found())
            kept = chosen if chosen in names else next(iter(names), None)
            return gr.Dropdown(choices=names, value=kept)

        def leave(request: gr.Request) -> None:
            studio.quiet(request.session_hash)

        run.change(lambda name: str(studio.about(name)), run, about, **QUIET)
        run.focus(found, run, run, **QUIET)
        blocks.load(found, run, run, **QUIET)
        blocks.unload(leave)
    blocks.queue(
        default_concurrency_limit=MOST_AT_ONCE, max_size=MOST_WAITING, api_open=False
    )
    return blocks


def _mark() -> Markup:
    return tag("h1", "Folio", tag("small", "studio"))


def _switch() -> Markup:
    return tag("button", "◐", type="button", id="theme", aria_label="light or dark")


@cache
def head() -> str:
    """What goes into the page's head: colors, views, the studio's own, and scripts.

    The sheet of the views is nested below `.views`, so that it can't touch Gradio's
    own parts.
    """
    views, tip, views_script, own, own_script = map(_text, _assets())
    style = f"{style_sheet()}{own}.views {{\n{views}\n}}\n{tip}"
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
