"""The page of a reward model: what it prefers, and what comes of choosing by it.

`folio.evals.sanity` says what sanity.json holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import write_atomically
from folio.viz.markup import Markup, join, tag
from folio.viz.numerals import digits
from folio.viz.page import Section, View, chart, headline, page, table
from folio.viz.svg import Series

Found = Mapping[str, Any]


def write_sanity(run: str | Path) -> Path:
    """Draw `run`/sanity.html from the sanity.json beside it and return its path."""
    path = Path(run) / "sanity.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with `folio eval {run} sanity`")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        content = render_sanity(found, Path(run).resolve().name)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from None
    return write_atomically(path.with_suffix(".html"), content)


def render_sanity(found: Found, name: str) -> str:
    """The page as a string; the same findings give the same string."""
    sections = [
        _preferences(found["pairs"]),
        _calibration(found["pairs"]["calibration"]),
        _degenerate(found["degenerate"]),
        _best_of(found["answers"]),
    ]
    return page(
        title=name,
        eyebrow="Reward model",
        summary="Is it fit to be optimized?",
        opening=headline(_headline(found)),
        sections=[section for section in sections if section],
    )


def _headline(found: Found) -> list[tuple[str, str, str]]:
    pairs, answers = found["pairs"], found["answers"]
    count = pairs["accuracy"]["all"]["count"]
    numbers = [
        ("pair accuracy", _mean(pairs["accuracy"]["all"]), f"of {count:,} pairs"),
        ("calibration error", digits(pairs["calibration"]["error"]), "expected"),
    ]
    if answers is not None:
        among = f"score and truth of {answers['count']:,} answers"
        numbers.append(
            ("rank correlation", _signed(answers["rank_correlation"]), among)
        )
        among = "score and length of equal answers"
        numbers.append(("length bias", _signed(answers["length_bias"]), among))
    return numbers


def _preferences(pairs: Found) -> Section:
    categories = list(pairs["accuracy"])
    judges = {"this model": pairs["accuracy"], **pairs["baselines"]}
    rows = [
        [name, *(_interval(found[category]) for category in categories)]
        for name, found in judges.items()
    ]
    lead = (
        "How often the preferred answer is scored higher, a tie counting one half, and "
        "the 95 % interval; beside judges that know lengths alone, and one whose "
        "labels were drawn by lot."
    )
    return Section("pairs", "Preferences", table(["", *categories], rows), lead)


def _calibration(found: Found) -> Section:
    bins = found["bins"]
    x = [one["confidence"] for one in bins]
    measured = [one["accuracy"] for one in bins]
    lines = [
        _line("is right", "train", x, measured),
        Series("should be", [0.5, 1.0], [0.5, 1.0], "other", dashed=True),
    ]
    views = [View(lines, x_label="how sure the model is")]
    figure = chart("calibration", "Right as often as it says?", views)
    lead = "Pairs by confidence, the sigmoid of the difference of two scores."
    return Section("calibration", "Calibration", figure, lead)


def _degenerate(found: Found) -> Section | None:
    if not found:
        return None
    columns = ["answer", "scored below the right one", "score", "of the right one"]
    rows = [
        [kind, _interval(one["below"]), _number(one["score"]), _number(one["gold"])]
        for kind, one in found.items()
    ]
    lead = "Answers that nobody could prefer, beside the right ones."
    return Section("degenerate", "Degenerate answers", table(columns, rows), lead)


def _best_of(answers: Found | None) -> Section | None:
    if answers is None or len(answers["best_of"]) < 2:
        return None
    rows = answers["best_of"]
    kl = [row["kl"] for row in rows]
    truth = [
        _line("chosen by the model", "train", kl, [row["truth"] for row in rows]),
        Series("chosen by the truth", kl, [r["best"] for r in rows], "good", dots=True),
    ]
    score = [Series("score", kl, [r["score"] for r in rows], "validation", dots=True)]
    label = "distance from one draw, in nats"
    figures = [
        chart("truth", "True reward", [View(truth, x_label=label)]),
        chart("score", "The model's own score", [View(score, x_label=label)]),
    ]
    ns = ", ".join(str(row["n"]) for row in rows)
    lead = (
        f"The best of n = {ns} answers, by the model's score. Where its score rises "
        "and the truth doesn't, its mistakes are what is chosen for."
    )
    return Section("best-of", "Best of n", join(figures), lead)


def _line(name: str, color: str, x: list[float], measured: list[Found]) -> Series:
    """Means with their intervals as a band; none where an interval is unbounded."""
    low, high = ([one[end] for one in measured] for end in ("low", "high"))
    bounded = None not in low + high
    y = [one["mean"] for one in measured]
    band = {"low": low, "high": high} if bounded else {}
    return Series(name, x, y, color, dots=True, **band)


def _interval(measure: Found) -> Markup:
    low, high = measure["low"], measure["high"]
    within = "" if low is None else f" {low:.2f}-{high:.2f}"
    small = tag("small", within) if within else None
    return tag("span", _mean(measure), small, class_="number")


def _number(value: float) -> Markup:
    return tag("span", f"{value:.3f}", class_="number")


def _mean(measure: Found) -> str:
    return f"{measure['mean']:.3f}"


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}"
