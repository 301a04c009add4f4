"""Next token: what could follow, and what temperature and cuts make of it."""

from __future__ import annotations

import random

import gradio as gr

from folio.config import UserError
from folio.studio.inside import draw_token, next_token, sampling_of
from folio.studio.tabs.common import (
    QUIET,
    SENTENCE,
    Page,
    as_chat,
    lead,
    redraw,
    sentence,
    sliders,
    view,
)
from folio.viz.markup import Markup


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Next token") as tab:
        lead(
            "A model gives every token of its vocabulary a chance. Temperature and "
            "cuts change the chances; then one token is drawn."
        )
        with gr.Row(elem_classes=["columns"]):
            with gr.Column(scale=2, min_width=260):
                text = sentence(SENTENCE)
                draw_one = gr.Button("Draw a token and go on", variant="primary")
                chat = as_chat()
                given = sliders()
            with gr.Column(scale=5, min_width=320):
                output = view()

    def draw(run: str | None, text: str, chat: bool, *given: float) -> Markup:
        return next_token(page.studio.load(run), text, sampling_of(*given), chat)

    def go_on(run: str | None, text: str, chat: bool, *given: float) -> str:
        try:
            sampling, seed = sampling_of(*given), random.getrandbits(31)
            loaded = page.studio.load(run)
            return text + draw_token(loaded, text, sampling, seed, chat)
        except UserError:  # the view says what is wrong
            return text

    inputs = [text, chat, *given]
    events = [text.change, chat.change, *(slider.change for slider in given)]
    redraw(page, tab, draw, inputs, output, events)
    draw_one.click(go_on, [page.run, *inputs], text, **QUIET)
    chat.change(lambda chat: gr.update(interactive=not chat), chat, draw_one, **QUIET)
