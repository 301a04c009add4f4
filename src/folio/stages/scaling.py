"""`folio scaling`: a family of small runs, the law of their losses, and its test.

A scaling file, such as `recipes/tiny/scaling.toml`:

    title = "How loss falls with size and data"
    steps = [100, 200, 400]           # every size is trained so long, each from anew

    [recipe.model]                    # what all runs have in common: a pretrain recipe
    n_layers = 2

    [sizes.small.model]               # from the smallest to the largest
    d_model = 32

    [verify]                          # the next size: predicted, then trained
    steps = 800

    [verify.model]
    d_model = 128

Each run is a run like any other; what is finished isn't run again, and an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from folio.config import UserError, build, merge, read_toml
from folio.files import exclusive, write_atomically
from folio.model.count import count_parameters
from folio.planning.scaling import LEAST, Fit, fit_law
from folio.runtime import machine
from folio.stages.assemble import Say, fill_vocab
from folio.stages.compare import run_trials, shared_vocabulary
from folio.stages.experiment import QUICK, Trial, share_text, tokens_read
from folio.stages.recipe import PretrainRecipe
from folio.stages.record import commit
from folio.training.run import Run
from folio.viz.numerals import compact, digits
from folio.viz.scaling import figure

NAMES = ("E", "A", "a", "B", "b")
QUICK_STEPS = (2, 4, 6)


@dataclass(frozen=True)
class Scaling:
    """What a scaling file says."""

    title: str = "How loss falls with size and data"
    seed: int = 1
    warmup: float = 0.1  # share of a run's steps; each run's schedule ends with it
    steps: tuple[int, ...] = ()
    recipe: dict = field(default_factory=dict)  # what all runs have in common
    sizes: dict = field(default_factory=dict)  # name -> what it changes
    verify: dict = field(default_factory=dict)  # the next one; its steps besides

    def __post_init__(self) -> None:
        runs = len(self.steps) * len(self.sizes)
        if len(set(self.steps)) < 3 or len(self.sizes) < 3 or runs < LEAST:
            raise UserError(
                f"steps = {list(self.steps)} and {len(self.sizes)} sizes: a law of "
                "five numbers needs three of each: steps = [..], [sizes.NAME]"
            )
        if min(self.steps) < 1:
            raise UserError(f"steps = {list(self.steps)}: must be at least 1")
        if not isinstance(self.verify.get("steps"), int):
            raise UserError("verify.steps is missing: how long to train the next size")
        for name, changes in self.sizes.items():
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or name == "verify":
                raise UserError(
                    f"sizes.{name}: use small letters, digits and dashes, and not "
                    "'verify'; a folder is named after it"
                )
            if not isinstance(changes, dict):
                raise UserError(f"sizes.{name} = {changes!r}: expected a table")


def run_scaling(
    path: Path,
    *,
    out: Path | None = None,
    quick: bool = False,
    runs: Path = Path("runs/scaling"),
    say: Say = print,
) -> Path:
    """Run what is missing, fit the law, train the next size; returns the record's path.

    The record NAME.json and its figure NAME.svg go to `out`, or beside the runs. The
    prediction is written down before the run that tests it is begun. `quick`: a few
    steps of each, to see that everything works; its law means nothing.
    """
    scaling = read_scaling(path)
    name = path.stem + ("-quick" if quick else "")
    home = runs / name
    trials = make_trials(scaling, home, quick)
    say(scaling.title)
    with exclusive(home):
        vocab_size = shared_vocabulary(trials[0], say)
        *family, last = trials
        run_trials(family, say)
        points = [point_of(trial, vocab_size) for trial in family]
        fit = fit_law(
            [point["parameters"] for point in points],
            [point["tokens"] for point in points],
            [point["loss"] for point in points],
            seed=scaling.seed,
        )
        prediction = predict(fit, last, vocab_size)
        say(table(points, fit))
        say(foretold(prediction))
        run_trials([last], say)
        loss = point_of(last, vocab_size)["loss"]
        record = make_record(scaling, path, points, fit, prediction | {"loss": loss})
        return write_record(record | {"quick": quick}, out or home, name, say)


def read_scaling(path: Path) -> Scaling:
    """The scaling file, checked."""
    try:
        return build(Scaling, read_toml(path))
    except UserError as error:
        text = str(error)
        raise error if str(path) in text else UserError(f"{path}: {text}") from None


def make_trials(scaling: Scaling, home: Path, quick: bool = False) -> list[Trial]:
    """Every size with every number of steps, the cheap ones first; the next size last.

    Every run has a schedule of its own that ends with it: losses in the middle of
    longer runs are higher, and would bend the law (Hoffmann et al. 2022, section 3.1).
    """
    steps = QUICK_STEPS if quick else scaling.steps
    trials = [
        make_trial(scaling, home, name, changes, count, quick)
        for count in sorted(steps)
        for name, changes in scaling.sizes.items()
    ]
    changes = {k: v for k, v in scaling.verify.items() if k != "steps"}
    count = QUICK_STEPS[-1] if quick else scaling.verify["steps"]
    return [*trials, make_trial(scaling, home, "verify", changes, count, quick)]


def make_trial(
    scaling: Scaling, home: Path, name: str, changes: dict, steps: int, quick: bool
) -> Trial:
    values = merge(scaling.recipe, changes)
    if quick:
        values = merge(values, QUICK)
    own = {
        "name": f"{home.name}/{name}-{steps}",
        "seed": scaling.seed,
        "optim": {"warmup": max(1, round(scaling.warmup * steps))},
        "train": {"steps": steps, "eval_every": steps, "save_every": 0},
        "sample": {"every": 0},
    }
    try:
        recipe = build(PretrainRecipe, merge(values, own))
    except UserError as error:
        raise UserError(f"size {name!r}: {error}") from None
    recipe = share_text(recipe, home)
    return Trial(name, scaling.seed, recipe, home / f"{name}-{steps}")


def point_of(trial: Trial, vocab_size: int) -> dict[str, Any]:
    """One finished run, as the law sees it: parameters with the embedding, tokens."""
    results = Run(trial.folder).read_info()["results"]
    return size_of(trial, vocab_size) | {"loss": results["final_val_loss"]}


def size_of(trial: Trial, vocab_size: int) -> dict[str, Any]:
    config = fill_vocab(trial.recipe.model, vocab_size)
    return {
        "size": trial.variant,
        "parameters": count_parameters(config)["total"],
        "tokens": tokens_read(trial.recipe),
    }


def predict(fit: Fit, trial: Trial, vocab_size: int) -> dict[str, Any]:
    """What the law says of the next size before it is trained."""
    point = size_of(trial, vocab_size)
    value, low, high = fit.predict(point["parameters"], point["tokens"])
    return point | {"predicted": value, "low": low, "high": high}


# ---- the record ----------------------------------------------------------------------


def make_record(
    scaling: Scaling,
    path: Path,
    points: Sequence[dict],
    fit: Fit,
    prediction: dict[str, Any],
) -> dict[str, Any]:
    """All that the figure and a reader need, in plain numbers."""
    found = prediction | {
        "relative_error": prediction["predicted"] / prediction["loss"] - 1,
        "inside": prediction["low"] <= prediction["loss"] <= prediction["high"],
    }
    budgets = [6 * p["parameters"] * p["tokens"] for p in [*points, prediction]]
    return {
        "title": scaling.title,
        "command": f"folio scaling {path.name}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine()["machine"],
        "torch": machine()["torch"],
        "seed": scaling.seed,
        "law": asdict(fit.law),
        "intervals": {name: fit.interval(name) for name in NAMES},
        "noise": fit.noise,
        "prediction": found,
        "optimum": [best_for(fit, budget) for budget in spread_out(budgets)],
        "points": [
            point
            | {"fitted": float(fit.law.loss(point["parameters"], point["tokens"]))}
            for point in points
        ],
    }


def best_for(fit: Fit, flops: float) -> dict[str, float]:
    """The compute-optimal size for one budget, and what its loss would be."""
    parameters, low, high = fit.optimum(flops)
    tokens = flops / 6 / parameters
    loss = float(fit.law.loss(parameters, tokens))
    return {
        "flops": flops,
        "parameters": parameters,
        "low": low,
        "high": high,
        "tokens": tokens,
        "loss": loss,
    }


def spread_out(values: Sequence[float], count: int = 12) -> list[float]:
    """`count` budgets from the smallest to ten times the largest, evenly in logarithms.

    >>> spread_out([1.0, 10.0], 3)
    [1.0, 10.0, 100.0]
    """
    low, high = min(values), 10 * max(values)
    return [low * (high / low) ** (i / (count - 1)) for i in range(count)]


def write_record(record: dict[str, Any], folder: Path, name: str, say: Say) -> Path:
    """NAME.json and NAME.svg, and what came out in a few lines."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_atomically(path.with_suffix(".svg"), figure(record))
    found = record["prediction"]
    where = "inside" if found["inside"] else "outside"
    say(
        f"measured {digits(found['loss'])}: {where} the interval, the prediction off "
        f"by {100 * found['relative_error']:+.1f} %"
    )
    for row in record["optimum"][::4]:
        say(
            f"for {row['flops']:.2g} operations: {compact(row['parameters'])} "
            f"parameters ({compact(row['low'])} to {compact(row['high'])}) on "
            f"{compact(row['tokens'])} tokens, loss {digits(row['loss'])}"
        )
    say(f"record {path}, figure {path.with_suffix('.svg')}")
    return path


def table(points: Sequence[dict], fit: Fit) -> str:
    """The runs, what the law says of each, and the law."""
    lines = [
        f"{'size':12}{'parameters':>12}{'tokens':>12}{'loss':>9}{'law':>9}{'off':>8}"
    ]
    for point in points:
        law = float(fit.law.loss(point["parameters"], point["tokens"]))
        off = 100 * (law / point["loss"] - 1)
        lines.append(
            f"{point['size']:12}{point['parameters']:>12,}{point['tokens']:>12,}"
            f"{point['loss']:9.4f}{law:9.4f}{off:+7.1f}%"
        )
    lines.append("\nloss = E + A / parameters^a + B / tokens^b")
    for name in NAMES:
        low, high = fit.interval(name)
        value = getattr(fit.law, name)
        lines.append(f"  {name} {value:10.4g}   95 % from {low:.4g} to {high:.4g}")
    return "\n".join(lines)


def foretold(prediction: dict[str, Any]) -> str:
    return (
        f"next: {prediction['parameters']:,} parameters on {prediction['tokens']:,} "
        f"tokens; predicted {digits(prediction['predicted'])}, 95 % from "
        f"{digits(prediction['low'])} to {digits(prediction['high'])}"
    )
