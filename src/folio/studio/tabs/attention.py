"""Attention: who looks at whom, in every head, through training."""

from __future__ import annotations

import gradio as gr

from folio.studio.inside import attention_of, recorded_attention
from folio.studio.tabs.common import Page, lead, redraw, sentence, view
from folio.viz.markup import Markup

OWN, RECORDED = "your text, at the run’s snapshots", "the text watched in training"


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Attention") as tab:
        lead("Each token looks back at earlier ones and takes something from them.")
        with gr.Row():
            text = sentence(scale=3)
            which = gr.Radio(
                [OWN, RECORDED], value=OWN, label="What to look at", scale=2
            )
        output = view()

    def draw(run: str | None, text: str, which: str) -> Markup:
        loaded = page.studio.load(run)
        if which == RECORDED:
            return recorded_attention(loaded)
        return attention_of(loaded, text)

    redraw(page, tab, draw, [text, which], output, [text.submit, which.change])
