"""Tokens: one text, cut by every tokenizer."""

from __future__ import annotations

import gradio as gr

from folio.config import UserError
from folio.studio.tabs.common import Page, lead, redraw, sentence, view
from folio.studio.tokens import tokens_view
from folio.viz.markup import Markup

TEXT = "Everyone knew Mara as a clever girl. She asked Zoë, who had 27 red kites."


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Tokens") as tab:
        lead(
            "Models read numbers. A tokenizer cuts a text into pieces and gives each "
            "a number: few large pieces of a large vocabulary, or many small ones."
        )
        text = sentence(TEXT)
        output = view()

    def draw(run: str | None, text: str) -> Markup:
        try:
            own = page.studio.load(run).tokenizer
        except UserError:  # the small ones can be looked at without any run
            own = None
        return tokens_view(text, own, run or "")

    redraw(page, tab, draw, [text], output, [text.change])
