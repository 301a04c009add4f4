"""The GPT in NumPy learns stories: its loss, and what it writes on the way.

    python book/experiments/scratch_gpt.py

takes some minutes of one core and writes book/results/scratch_gpt.json and .svg.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from folio.book.record import record
from folio.data import tales
from folio.scratch.gpt import GPT, Shape, sample, train
from folio.viz.svg import Series, line_chart, smoothed

RESULTS = Path(__file__).resolve().parent.parent / "results"
LOOKS = (1, 50, 100, 200, 400, 800)  # after so many steps it is asked to write


def main(steps: int) -> None:
    """Train, look, record."""
    text = "\n".join(tales.documents(seed=0, count=120))
    characters = sorted(set(text))
    ids = np.array([characters.index(character) for character in text])
    model, losses, samples = GPT(Shape(vocab_size=len(characters))), [], []
    start = time.perf_counter()
    for step, loss in enumerate(train(model, ids, steps), 1):
        losses.append(round(loss, 4))
        if step in LOOKS or step == steps:
            written = sample(model, [int(ids[0])], 72)
            text_of = "".join(characters[i] for i in written)
            samples.append({"step": step, "loss": losses[-1], "text": text_of})
            print(f"{step:5} {loss:.3f} {text_of!r}", flush=True)
    numbers = {
        "steps": steps,
        "characters": len(text),
        "vocabulary": len(characters),
        "seconds": round(time.perf_counter() - start, 1),
        "samples": samples,
        "losses": losses,
    }
    record("scratch_gpt", numbers, drawing(losses, len(characters)), RESULTS)


def drawing(losses: list[float], vocabulary: int) -> str:
    """The loss against the step, and the loss of knowing nothing."""
    steps = list(range(1, len(losses) + 1))
    nothing = Series(
        "knows nothing",
        [1, len(losses)],
        [float(np.log(vocabulary))] * 2,
        color="other",
        dashed=True,
    )
    learned = smoothed(Series("loss", steps, losses, color="train"))
    description = "The loss falls from that of knowing nothing."
    return line_chart(
        [*learned, nothing],
        width=620,
        height=280,
        y_label="loss, nats per character",
        description=description,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    main(parser.parse_args().steps)
