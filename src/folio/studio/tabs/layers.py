"""Layers: what each would say, the logit lens."""

from __future__ import annotations

import gradio as gr

from folio.studio.inside import layers_of
from folio.studio.tabs.common import Page, as_chat, lead, redraw, sentence, view
from folio.viz.markup import Markup


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Layers") as tab:
        lead(
            "The stream between two layers can be read as if the model ended there: "
            "guesses grow from layer to layer."
        )
        with gr.Row():
            text = sentence(scale=4)
            with gr.Column(scale=1, min_width=180):
                chat = as_chat()
        output = view()

    def draw(run: str | None, text: str, chat: bool) -> Markup:
        return layers_of(page.studio.load(run), text, chat)

    redraw(page, tab, draw, [text, chat], output, [text.submit, chat.change])
