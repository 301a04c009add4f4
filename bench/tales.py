"""What `folio demo` learns, beside counting: held-out tales, over several seeds.

Each seed makes its own text, tokenizer and weights by the demo's recipe. The baseline
is an interpolated Kneser-Ney 5-gram over the same tokens. The value is the median of
model / 5-gram in bits per byte of held-out text; copy_name and copy_object tell how
often the model's first guess is a name, or a thing, that the story has already said.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from folio.data import tales
from folio.evals.copying import copy_accuracy
from folio.stages.demo import demo_recipe, results
from folio.stages.pretrain import pretrain
from folio.training.log import read_rows
from record import median, parse_arguments, record

GOAL = 0.8  # at least 20 % below the 5-gram


def measure(seed: int, quick: bool, embedding_std: float | None) -> dict:
    """Train one seed and judge it."""
    recipe = demo_recipe(smoke=False, seed=seed)
    model = replace(recipe.model, embedding_std=embedding_std)
    recipe = replace(recipe, model=model)
    if quick:  # less text, each token read about once, judged at the end
        recipe = replace(
            recipe,
            data=replace(recipe.data, megabytes=6.0),
            train=replace(recipe.train, steps=1300, eval_every=1300, save_every=0),
            sample=replace(recipe.sample, every=0),
        )
    probes = tales.copy_probes(0, 600)
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(
            recipe,
            Path(folder) / "run",
            also_measure=lambda model, tokenizer: copy_accuracy(
                model, tokenizer, probes
            ),
            say=lambda text: print(text, file=sys.stderr),
        )
        rows = {name: bits for name, bits, _ in results(recipe, run)["rows"]}
        learned = run.read_info()["results"]
        curve = [row for row in read_rows(run.metrics) if "val_loss" in row]
    names = list(rows)
    return {
        "seed": seed,
        "steps": recipe.train.steps,
        "seconds": learned["seconds"],
        "bits_per_byte": rows[names[-1]],
        "five_gram": rows[names[-2]],
        "ratio": rows[names[-1]] / rows[names[-2]],
        "copy_name": curve[-1]["copy_name"],
        "copy_object": curve[-1]["copy_object"],
        "curve": [
            {
                key: row[key]
                for key in ("step", "val_bits_per_byte", "copy_name", "copy_object")
            }
            for row in curve
        ],
    }


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--seeds", {"type": int, "nargs": "+", "default": [1, 2, 3]}),
        ("--embedding-std", {"type": float, "help": "instead of the recipe's own"}),
    )
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    rows = []
    for seed in seeds:
        rows.append(measure(seed, arguments.quick, arguments.embedding_std))
        shown = {key: value for key, value in rows[-1].items() if key != "curve"}
        print(shown, flush=True)
    ratio = median([row["ratio"] for row in rows])
    ablated = "" if arguments.embedding_std is None else "_embedding_std"
    record(f"tales{ablated}", ratio, GOAL, rows, higher_is_better=False)


if __name__ == "__main__":
    main()
