"""`folio learn train`: a model of the learner's own pieces beside the reference."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import write_atomically
from folio.learn.exercises import find
from folio.learn.folder import Folder
from folio.learn.runner import kill_group

STEPS = 500


def train(folder: Path, model: str = "gpt", steps: int = STEPS) -> Path:
    """Train twice, with and without the learner's passed pieces; write a page.

    The seeds are the same, so if the pieces are right, the curves lie on one another.
    Returns the page's path; UserError if no piece has passed, or one fails.
    """
    from folio.learn.lesson import MODELS, pieces_of

    if model not in MODELS:
        raise UserError(f"model = {model!r}: choose one of {', '.join(MODELS)}")
    if steps < 1:
        raise UserError(f"steps = {steps}: must be at least 1")
    mine = Folder(folder)
    pieces = [name for name in pieces_of(model) if mine.has_passed(find(name))]
    files = {name: mine.answer(find(name)) for name in pieces}
    lost = [name for name, file in files.items() if not file.exists()]
    if lost:
        raise UserError(f"{files[lost[0]]} has passed, but is gone; put it back")
    if not pieces:
        raise UserError(
            f"no piece of this model has passed yet; it takes "
            f"{', '.join(pieces_of(model))}"
        )
    print(f"with your {', '.join(pieces)}:")
    yours = lesson(model, steps, [f"{n}={f.resolve()}" for n, f in files.items()])
    print("with the package's own:")
    reference = lesson(model, steps, [])
    page = folder / f"train-{model}.html"
    write_atomically(page, drawn(model, pieces, yours, reference))
    print(summary(yours, reference))
    print(f"the curves are in {page}")
    return page


def lesson(model: str, steps: int, pieces: list[str]) -> dict[str, Any]:
    """What a training in a process of its own found; it prints as it goes."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "result.json"
        command = [sys.executable, "-m", "folio.learn.lesson", model, str(steps)]
        process = subprocess.Popen(
            [*command, str(out), *pieces],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = process.wait()
        finally:
            kill_group(process)
        if not out.is_file():
            raise UserError(
                f"the training ended with status {status} before it was done; "
                "`folio learn check` tells which piece it is"
            )
        result = json.loads(out.read_text("utf-8"))
    if "failed" in result:
        raise UserError(f"a piece failed in training: {result['failed']}")
    return result


def largest_difference(yours: dict[str, Any], reference: dict[str, Any]) -> float:
    """In nats, between the losses of any one step."""
    pairs = zip(yours["losses"], reference["losses"], strict=False)
    return max(abs(one - other) for one, other in pairs)


def summary(yours: dict[str, Any], reference: dict[str, Any]) -> str:
    """One sentence on how the two compare."""
    last, other = yours["losses"][-1], reference["losses"][-1]
    pairs = zip(yours["losses"], reference["losses"], strict=False)
    apart = [step for step, (a, b) in enumerate(pairs, 1) if not abs(a - b) < 0.005]
    text = f"the last loss is {last:.3f}, that of the reference {other:.3f}"
    if not apart:
        return f"{text}; the curves lie on one another"
    text += f"; the curves differ by {largest_difference(yours, reference):.3f} nats "
    text += f"at most, from step {apart[0]} on"
    if apart[0] == 1:  # before anything was learned
        text += (
            ": a model that draws its first weights in another order is reason enough"
        )
    return text


def drawn(
    model: str, pieces: list[str], yours: dict[str, Any], reference: dict[str, Any]
) -> str:
    """The page: both curves, the samples, and which pieces took part."""
    from folio.viz.page import Section, View, chart, headline, page, table
    from folio.viz.svg import Series

    def line(name: str, result: dict[str, Any], **looks: Any) -> Series:
        return Series(
            name, range(1, len(result["losses"]) + 1), result["losses"], **looks
        )

    curves = [
        line("reference", reference, color="other"),
        line("yours", yours, dashed=True),
    ]
    numbers = [
        ("your last loss", f"{yours['losses'][-1]:.3f}", "nats per character"),
        ("the reference's", f"{reference['losses'][-1]:.3f}", "nats per character"),
        ("pieces", str(len(pieces)), "that are yours"),
    ]
    samples = [(step, f"{loss:.3f}", text) for step, loss, text in yours["samples"]]
    symbols = [(find(name).title, find(name).symbol) for name in pieces]
    sections = [
        Section("loss", "Loss", chart("loss", "Nats per character", [View(curves)])),
        Section("samples", "What it writes", table(("step", "loss", "text"), samples)),
        Section("pieces", "Your pieces", table(("piece", "in place of"), symbols)),
    ]
    title = f"A small {'GPT' if model == 'gpt' else 'Llama'} of your own"
    text = summary(yours, reference)
    text = f"{text[0].upper()}{text[1:]}."
    return page(title, "folio learn train", text, headline(numbers), sections)
