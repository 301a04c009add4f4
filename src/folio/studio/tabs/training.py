"""Training: start a small run, watch it, stop it, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from folio.config import UserError, read_toml
from folio.studio.tabs.common import QUIET, Page, fresh, lead, view
from folio.studio.training import FIELDS, RECIPE
from folio.viz.dialog import notice

EVERY = 1.5  # seconds between two looks


def build(page: Page) -> None:
    """The tab."""
    training = page.studio.training
    with gr.Tab("Training") as tab:
        lead("A small model on the embedded tales, by the code that trains large ones.")
        with gr.Row(elem_classes=["columns"]):
            with gr.Column(scale=2, min_width=260):
                name = gr.Textbox("studio-1", label="Name of the run", max_length=64)
                with gr.Row():
                    numbers = [_number(field) for field in FIELDS]
                start = gr.Button("Start", variant="primary")
                with gr.Row():
                    stop = gr.Button("Stop", interactive=False, min_width=100)
                    resume = gr.Button("Resume", interactive=False, min_width=100)
            with gr.Column(scale=5, min_width=320):
                output = view(notice("Nothing is being trained.", "plain"))
        timer = gr.Timer(EVERY, active=False)

    controls = [output, timer, start, stop, resume]

    def look(said: UserError | None = None) -> list[Any]:
        state = training.state()
        running = state is not None and state.running
        drawing = gr.skip() if state is None else fresh(state.view)
        if said is not None:
            drawing = fresh(notice(said))
        return [
            drawing,
            gr.Timer(active=running),
            gr.update(interactive=not running),
            gr.update(interactive=running),
            gr.update(interactive=state is not None and state.can_resume),
        ]

    def after(act: Callable[..., None]) -> Callable[..., list[Any]]:
        def callback(*values: Any) -> list[Any]:
            try:
                act(*values)
            except UserError as error:
                return look(error)
            return look()

        return callback

    def begin(name: str, *values: float) -> None:
        training.start(name, dict(zip(FIELDS, values, strict=True)))

    tab.select(lambda: [tab.label, *look()], None, [page.here, *controls], **QUIET)
    timer.tick(look, None, controls, **QUIET)
    start.click(after(begin), [name, *numbers], controls, **QUIET)
    stop.click(after(training.stop), None, controls, **QUIET)
    resume.click(after(training.resume), name, controls, **QUIET)


def _number(field: str) -> gr.Number:
    """A field of the recipe, at first as the recipe has it."""
    title, least, most = FIELDS[field]
    table, key = field.split(".")
    value = read_toml(RECIPE)[table][key]
    return gr.Number(
        value, label=title.capitalize(), minimum=least, maximum=most, min_width=110
    )
