"""Chat: talk with a run, and keep what you liked better."""

from __future__ import annotations

import gradio as gr

from folio.studio.tabs.common import QUIET, Page, lead, view
from folio.studio.tabs.talking import Callbacks
from folio.studio.talk import DOWN, MOST_ANSWERS, MOST_NEW_TOKENS, UP, Talk


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Chat") as tab:
        lead(
            "Ask, ask for another answer, and say which is better: each such pair is "
            "kept, in the form that DPO learns from."
        )
        talk = gr.State(Talk())
        with gr.Row(elem_classes=["columns"]):
            with gr.Column(scale=5, min_width=320):
                said, cards = view(), Cards()
                message = gr.Textbox(
                    label="Your message",
                    lines=1,
                    max_lines=6,
                    placeholder="Ask something",
                )
                with gr.Row(elem_classes=["buttons"]):
                    send = gr.Button("Send", variant="primary", min_width=120)
                    again = gr.Button("Another answer", min_width=140)
                    stop = gr.Button("Stop", interactive=False, min_width=80)
                    anew = gr.Button("Start over", min_width=110)
                told = view()
            with gr.Column(scale=2, min_width=240):
                system = gr.Textbox(label="System prompt", lines=2, max_lines=6)
                heat = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
                top_p = gr.Slider(0.05, 1, 1, step=0.01, label="Top-p")
                most = gr.Slider(8, MOST_NEW_TOKENS, 128, step=8, label="Most tokens")
                export = gr.Button("Keep the conversation")
                kept = view()

    callbacks = Callbacks(page.studio)
    outputs = [talk, said, *cards.all, told, kept, send, again, anew, stop]
    given = [page.run, talk, system, heat, top_p, most]
    asking = {"concurrency_limit": None, **QUIET}
    gr.on(
        [send.click, message.submit],
        callbacks.send,
        [message, *given],
        [message, *outputs],
        **asking,
    )
    again.click(callbacks.again, given, outputs, **asking)
    stop.click(callbacks.stop, None, None, queue=False, **QUIET)
    anew.click(callbacks.start_over, None, outputs, **QUIET)
    export.click(callbacks.export, talk, outputs, **QUIET)
    page.run.change(callbacks.other_run, talk, outputs, **QUIET)
    for number, (up, down) in enumerate(cards.thumbs):
        up.click(callbacks.mark(number, UP), talk, outputs, **QUIET)
        down.click(callbacks.mark(number, DOWN), talk, outputs, **QUIET)
    tab.select(
        lambda talk: [tab.label, *callbacks.view.show(talk)],
        talk,
        [page.here, *outputs],
        **QUIET,
    )


class Cards:
    """The answers to the last message: a text and two thumbs each, hidden at first."""

    def __init__(self) -> None:
        self.columns, self.texts, self.thumbs = [], [], []
        with gr.Row(elem_classes=["cards"]):
            for number in range(1, MOST_ANSWERS + 1):
                with gr.Column(visible=False, min_width=200) as column:
                    self.texts.append(view())
                    with gr.Row():
                        up = _thumb("▲ better", f"up-{number}")
                        down = _thumb("▼ worse", f"down-{number}")
                self.columns.append(column)
                self.thumbs.append((up, down))
        flat = [thumb for pair in self.thumbs for thumb in pair]
        self.all = [*self.columns, *self.texts, *flat]


def _thumb(text: str, name: str) -> gr.Button:
    return gr.Button(text, size="sm", min_width=60, elem_id=name)
