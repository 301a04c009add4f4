"""The page: a head with the run that is looked at, and a tab for each view."""

from __future__ import annotations

import gradio as gr

from folio.studio.state import Studio
from folio.studio.tabs import (
    attention,
    chat,
    compare,
    experts,
    layers,
    next_token,
    tokens,
    training,
)
from folio.studio.tabs.common import QUIET, Page, fresh, view
from folio.viz.markup import Markup, tag

TABS = (tokens, attention, next_token, layers, experts, training, compare, chat)
MOST_AT_ONCE = 16  # callbacks of one kind
MOST_WAITING = 256


def build_page(studio: Studio) -> gr.Blocks:
    """Everything, for all who look at this studio."""
    names = list(studio.runs.found())
    first = names[0] if names else None
    with gr.Blocks(title="Folio studio", analytics_enabled=False) as blocks:
        with gr.Row(elem_classes=["studio-head"]):
            mark = tag("h1", "Folio", tag("small", "studio"))
            view(mark, elem_classes=["studio-mark"])
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
            for tab in TABS:
                tab.build(page)
        _keep_current(blocks, page, about)
    blocks.queue(
        default_concurrency_limit=MOST_AT_ONCE, max_size=MOST_WAITING, api_open=False
    )
    return blocks


def _switch() -> Markup:
    return tag("button", "◐", type="button", id="theme", aria_label="light or dark")


def _keep_current(blocks: gr.Blocks, page: Page, about: gr.HTML) -> None:
    """The list of runs, the line about the one that is chosen, and who has left."""
    studio, run = page.studio, page.run

    def found(chosen: str | None) -> gr.Dropdown:
        names = list(studio.runs.found())
        kept = chosen if chosen in names else next(iter(names), None)
        return gr.Dropdown(choices=names, value=kept)

    def leave(request: gr.Request) -> None:
        studio.quiet(request.session_hash)

    run.change(lambda name: fresh(studio.about(name)), run, about, **QUIET)
    run.focus(found, run, run, **QUIET)
    blocks.load(found, run, run, **QUIET)
    blocks.unload(leave)
