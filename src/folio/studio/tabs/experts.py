"""Experts: which token goes where."""

from __future__ import annotations

import gradio as gr

from folio.studio.inside import experts_of
from folio.studio.tabs.common import Page, lead, redraw, sentence, view
from folio.viz.markup import Markup


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Experts") as tab:
        lead(
            "A mixture of experts has many feed-forward parts; a router sends each "
            "token to a few of them."
        )
        text = sentence()
        output = view()

    def draw(run: str | None, text: str) -> Markup:
        return experts_of(page.studio.load(run), text)

    redraw(page, tab, draw, [text], output, [text.submit])
