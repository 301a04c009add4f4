"""Compare: one prompt through several runs, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from folio.config import UserError
from folio.stages.samples import embedded_prompts
from folio.studio.compare import LONGEST, MOST_RUNS, compare, usual
from folio.studio.inside import sampling_of
from folio.studio.tabs.common import QUIET, Page, lead, patched, sentence, view
from folio.viz.dialog import notice


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Compare") as tab:
        lead("The same prompt, asked of what each stage of training has made.")
        chosen = gr.CheckboxGroup([], label=f"Runs, at most {MOST_RUNS}")
        with gr.Row(elem_classes=["at-end"]):
            prompt = sentence(embedded_prompts(0, 1)[0], "Prompt", scale=4)
            ask = gr.Button("Ask all", variant="primary", scale=1, min_width=140)
        with gr.Row():
            heat = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
            most = gr.Slider(8, LONGEST, 64, step=8, label="Most tokens")
            seed = gr.Slider(0, 100, 1, step=1, label="Seed")
            plain = gr.Checkbox(False, label="Write on", info="not as a question")
        output = view()

    def open_it(chosen: list[str]) -> tuple:
        names = list(page.studio.runs.found())
        kept = [name for name in chosen or [] if name in names] or usual(names)
        return tab.label, gr.update(choices=names, value=kept)

    def answer(
        chosen: list[str], prompt: str, heat: float, most: int, seed: int, plain: bool
    ) -> Iterator[str]:
        try:
            runs = {name: page.studio.runs.path(name) for name in chosen or []}
            sampling = sampling_of(heat, 0, 1, 0, 1)
            load = page.studio.models.of
            for columns in compare(runs, load, prompt, sampling, most, seed, plain):
                yield patched(columns)
        except UserError as error:
            yield patched(notice(error))

    tab.select(open_it, chosen, [page.here, chosen], **QUIET)
    inputs = [chosen, prompt, heat, most, seed, plain]
    gr.on([ask.click, prompt.submit], answer, inputs, output, **QUIET)
