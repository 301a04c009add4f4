"""The page of a whole path: what each stage gained, from the exams all runs have taken.

`folio.stages.gains` says what gains.json holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import write_atomically
from folio.viz.bars import Bar, interval_bars
from folio.viz.color import paint, resolve
from folio.viz.markup import Markup, join, tag
from folio.viz.names import part_name, title_of
from folio.viz.page import Section, headline, page, swatch, table
from folio.viz.svg import CHARACTER, COLORS_OF_RUNS, Series, label, line_chart

Gains = Mapping[str, Any]  # {exam: {run: {"greedy" | "sampled": {task: measures}}}}
Answers = Sequence[Mapping[str, Any]]

ALL = "all"
MODES = {"sampled": "run-0", "greedy": "run-1"}
MEASURES = {
    "gold": ("Gold reward", "1 for a right answer, and 0.5 for the preferred style."),
    "accuracy": ("Right answers", "Share of answers."),
    "style": ("Preferred style", "Share of answers in it."),
    "exact": ("To the letter", "Share that are the expected text."),
}
SHARES = ("accuracy", "style", "exact")  # their bars end at 1
WORDINGS = {"core": ("seen", "run-0"), "unseen": ("unseen", "run-2")}


def write_gains(
    folder: str | Path,
    *,
    answers: Answers = (),
    reports: Mapping[str, str | Path] | None = None,
) -> Path:
    """Draw `folder`/gains.html from the gains.json beside it and return its path.

    reports: each run's report, relative to the folder; if None, those that lie in its
    subfolders. `render_gains` says what answers are.
    """
    folder = Path(folder)
    path = folder / "gains.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; `folio demo` makes it")
    if reports is None:
        found = sorted(folder.glob("*/report.html"), key=_begun)
        reports = {
            report.parent.name: f"{report.parent.name}/report.html" for report in found
        }
    try:
        gains = json.loads(path.read_text(encoding="utf-8"))
        content = render_gains(
            gains, name=folder.resolve().name, answers=answers, reports=reports
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from None
    return write_atomically(path.with_suffix(".html"), content)


def _begun(report: Path) -> tuple[str, str]:
    """Runs in the order in which they were begun."""
    path = report.parent / "run.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        return str(info.get("started") or ""), report.parent.name
    except (OSError, ValueError, AttributeError):
        return "", report.parent.name


def render_gains(
    gains: Gains,
    *,
    name: str = "gains",
    answers: Answers = (),
    reports: Mapping[str, str | Path] | None = None,
) -> str:
    """The page as a string; the same gains give the same string.

    answers: {"prompt": ..., "answers": {run: {"greedy": ..., "sampled": ...}}} each.
    reports: what a run's name links to.
    """
    core = gains["core"]
    sections = [
        _stages(core),
        _tasks(core, "tasks", "Task by task", TASKS),
        _wordings(gains),
        _tasks(gains.get("ladder"), "ladder", "Harder tasks", LADDER),
        _answers(answers),
        _reports(reports or {}),
    ]
    runs = list(core)
    count = core[runs[0]]["sampled"][ALL]["gold"]["count"]
    return page(
        title=name,
        eyebrow=f"From {runs[0]} to {runs[-1]} · {count:,} held-out prompts",
        summary="One small model, and what each stage of training has made of it.",
        opening=headline(_headline(core)),
        sections=[section for section in sections if section],
    )


def _headline(core: Gains) -> list[tuple[str, str, str]]:
    numbers = []
    for run, found in core.items():
        overall = found["sampled"][ALL]
        right = f"gold; {overall['accuracy']['mean']:.0%} right"
        numbers.append((run, f"{overall['gold']['mean']:.2f}", right))
    return numbers


# ---- the sections --------------------------------------------------------------------


def _stages(core: Gains) -> Section:
    """A chart for each measure: two bars for each run."""
    charts = [
        _bars(
            title,
            note,
            [
                (run, [_bar(found[mode][ALL][key], MODES[mode]) for mode in MODES])
                for run, found in core.items()
            ],
            MODES.items(),
            most=1.0 if key in SHARES else None,
        )
        for key, (title, note) in MEASURES.items()
    ]
    lead = (
        "Every run has answered the same held-out prompts. Sampled answers are drawn "
        "at temperature 1, greedy ones take the likeliest token. Thin lines: where the "
        "true value lies with 95 % chance, by the prompts that were drawn."
    )
    body = tag("div", *charts, class_="charts bars")
    return Section("stages", "Stage by stage", body, lead)


def _wordings(gains: Gains) -> Section | None:
    """Questions as training asks them, beside the same in other words."""
    if "unseen" not in gains:
        return None
    charts = []
    for mode in MODES:
        groups = [
            (
                run,
                [
                    _bar(gains[exam][run][mode][ALL]["accuracy"], color)
                    for exam, (_, color) in WORDINGS.items()
                ],
            )
            for run in gains["core"]
        ]
        title = f"Right answers, {mode}"
        charts.append(_bars(title, "", groups, WORDINGS.values(), most=1.0))
    lead = (
        "The same tasks, asked as in training and in words that training never used. "
        "What holds in both was understood; what falls was learned by its words."
    )
    return Section(
        "wordings", "Other words", tag("div", *charts, class_="charts bars"), lead
    )


def _bars(title, note, groups, legend, most) -> Markup:
    names = [swatch(color, name) for name, color in legend]
    return tag(
        "figure",
        tag("div", tag("h3", title), class_="chart-head"),
        tag("p", *names, class_="legend"),
        tag("figcaption", note) if note else None,
        tag(
            "div",
            interval_bars(groups, most=most, description=title),
            class_="view-still",
        ),
        class_="chart small",
    )


def _bar(measure: Mapping[str, Any], color: str) -> Bar:
    return Bar(measure["mean"], color, measure["low"], measure["high"])


TASKS = (
    "Share of right answers, sampled; beneath in small, greedy. The stronger the "
    "color, the more are right."
)
LADDER = (
    "Tasks that no stage has trained, only measured: what came along by itself. "
    + TASKS
)


def _tasks(exam: Gains | None, key: str, title: str, lead: str) -> Section | None:
    """A table of tasks and runs, colored by the share of right answers."""
    if not exam:
        return None
    first = next(iter(exam.values()))["sampled"]
    rows = [
        [part_name(task), *(_heat(found, task) for found in exam.values())]
        for task in first
        if task != ALL
    ]
    rows.append(["all of them", *(_heat(found, ALL) for found in exam.values())])
    return Section(key, title, table(["", *exam], rows), lead)


def _heat(found: Mapping[str, Any], task: str) -> Markup:
    sampled, greedy = (found[mode][task]["accuracy"]["mean"] for mode in MODES)
    share = round(45 * max(0.0, min(1.0, sampled)))
    color = f"color-mix(in srgb, {paint('train')} {share}%, transparent)"
    small = tag("small", f"{greedy:.2f}")
    return tag(
        "span", f"{sampled:.2f}", small, class_="heat", style=f"background:{color}"
    )


def _answers(answers: Answers) -> Section | None:
    """The same prompts, answered by each run."""
    if not answers:
        return None
    blocks = []
    for place, asked in enumerate(answers):
        rows = [
            [run, *(tag("span", said.get(mode) or "", class_="said") for mode in MODES)]
            for run, said in asked["answers"].items()
        ]
        title = tag("summary", tag("span", f"“{asked['prompt']}”", class_="ask"))
        body = table(["", *MODES], rows)
        blocks.append(tag("details", title, body, open=place < 2, class_="asked"))
    lead = "The same questions, put to each of them."
    return Section("answers", "Answers", join(blocks), lead)


def _reports(reports: Mapping[str, str | Path]) -> Section | None:
    if not reports:
        return None
    links = [tag("li", tag("a", run, href=str(at))) for run, at in reports.items()]
    lead = "How each of them learned, curve by curve."
    return Section("reports", "Reports", tag("ul", *links, class_="reports"), lead)


# ---- a figure that stands alone ------------------------------------------------------


def two_curves(
    runs: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str = "What the reward model pays, and what is true",
    names: tuple[str, str] = ("reward model's score", "right answers"),
) -> str:
    """Score to the left, truth to the right, against steps: how a reward is hacked.

    runs: {name: {"steps": [...], "reward": [...], "accuracy": [...]}}. An SVG that
    needs no page: colors are its own, on light paper.
    """
    if not runs:
        raise UserError("two_curves: no runs to draw")
    drawings = []
    for key in ("reward", "accuracy"):
        lines = [
            Series(name, run["steps"], run[key], f"run-{place % COLORS_OF_RUNS}")
            for place, (name, run) in enumerate(runs.items())
        ]
        drawings.append(line_chart(lines, width=490, height=290, labels=False))
    whole = tag(
        "svg",
        tag("title", title),
        tag("rect", width=1000, height=350, fill=paint("paper")),
        *_legend(list(runs)),
        *(
            join(
                [
                    label(
                        title_of(names[side]), x + 8, 56, color="ink", font_weight=600
                    ),
                    tag("svg", drawing, x=x, y=58, width=490, height=290),
                ]
            )
            for side, (x, drawing) in enumerate(zip((4, 504), drawings, strict=True))
        ),
        viewBox="0 0 1000 350",
        font_family="system-ui, sans-serif",
        font_size=12,
    )
    return resolve(whole) + "\n"


def _legend(names: Sequence[str]) -> list[Markup]:
    """A short line and a name for each run, on top."""
    marks, x = [], 12.0
    for place, name in enumerate(names):
        color = f"run-{place % COLORS_OF_RUNS}"
        stroke = {"stroke": paint(color), "stroke_width": 2.2}
        marks.append(tag("line", x1=x, x2=x + 20, y1=22, y2=22, **stroke))
        marks.append(label(name, x + 27, 26, color="ink"))
        x += 27 + len(name) * CHARACTER + 24
    return marks
