"""What every tab is made with."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr

from folio.config import UserError
from folio.studio.state import Studio
from folio.viz.dialog import notice
from folio.viz.markup import Markup, tag

SENTENCE = "Mara had a red kite. Tom wanted the red kite, so Tom asked Mara for the"
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
# What our data blocks hold is JSON for a script of the page; it isn't meant to run.
warnings.filterwarnings("ignore", message="A `<script>` tag was found")
NEWEST = QUIET | {"trigger_mode": "always_last"}


@dataclass(frozen=True)
class Page:
    """What tabs share on one page: the studio, the run that is chosen, where one is."""

    studio: Studio
    run: gr.Dropdown
    here: gr.State  # the name of the open tab


def view(value: Markup | None = None, **options: Any) -> gr.HTML:
    """A place for what `folio.viz` draws."""
    drawn = "" if value is None else fresh(value)
    plain = {"apply_default_css": False, "js_on_load": None}
    classes = ["views", *options.pop("elem_classes", [])]
    return gr.HTML(drawn, elem_classes=classes, **plain, **options)


def fresh(drawing: Markup) -> str:
    """The drawing in an element that Gradio exchanges as a whole when it changes.

    Gradio patches old elements to look like new ones, and so would keep what scripts
    have made of the old ones. An element of another name is never patched; the name is
    made of the content, so what stays the same is left alone.
    """
    digest = hashlib.sha256(drawing.encode("utf-8", "replace")).hexdigest()[:12]
    return str(tag(f"folio-{digest}", drawing, class_="fresh live"))


def patched(drawing: Markup) -> str:
    """A drawing that changes while it is looked at, such as an answer that grows."""
    return str(tag("div", drawing, class_="live"))


def shown(function: Callable[..., Markup]) -> Callable[..., str]:
    """The callback for one view: what can't be done is said in its place."""

    @wraps(function)
    def callback(*values: Any) -> str:
        try:
            return fresh(function(*values))
        except UserError as error:
            return fresh(notice(error))

    return callback


def redraw(
    page: Page,
    tab: gr.Tab,
    function: Callable[..., Markup],
    inputs: Sequence[gr.components.Component],
    output: gr.HTML,
    events: Sequence[Any] = (),
) -> None:
    """Draw `function(run, *inputs)` when the tab is opened, on `events`, and when the
    run changes while the tab is open."""
    draw, name = shown(function), tab.label

    def open_it(*values: Any) -> tuple[str, str]:
        return name, draw(*values)

    def if_here(here: str, *values: Any) -> Any:
        return draw(*values) if here == name else gr.skip()

    given = [page.run, *inputs]
    tab.select(open_it, given, [page.here, output], **QUIET)
    gr.on([page.run.change], if_here, [page.here, *given], output, **QUIET)
    if events:
        gr.on(list(events), draw, given, output, **NEWEST)


def lead(text: str) -> None:
    """What a tab is for, in a sentence."""
    view(tag("p", text, class_="lead"))


def sentence(
    value: str = SENTENCE, label: str = "Your text", **more: Any
) -> gr.Textbox:
    """Where a text is written; Enter is enough."""
    return gr.Textbox(value, label=label, lines=1, max_lines=6, **more)


def as_chat() -> gr.Checkbox:
    """Whether a text is read as what somebody says in a chat."""
    return gr.Checkbox(False, label="As a message", info="of a chat, not as a text")


def sliders(temperature: float = 1.0) -> list[gr.Slider]:
    """Temperature, top-k, top-p, min-p, repetition penalty; ends do nothing."""
    ends = [
        ("Temperature", 0, 2, temperature, 0.05, "0: the first"),
        ("Top-k", 0, 100, 0, 1, "0: all"),
        ("Top-p", 0.05, 1, 1, 0.01, "1: all"),
        ("Min-p", 0, 1, 0, 0.01, "0: all"),
        ("Repetition penalty", 1, 2, 1, 0.05, "1: none"),
    ]
    return [
        gr.Slider(least, most, value, step=step, label=name, info=info)
        for name, least, most, value, step, info in ends
    ]
