"""What each stage has gained: the same exam for several runs, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.data import tales
from folio.evals.answers import ALL, AnswerEvaluator, Measure, Results
from folio.evals.respond import respond_with
from folio.evals.table import aligned
from folio.infer.sampling import Sampling
from folio.stages.asked import Exam, tales_exam
from folio.stages.exam import EXAM_SEED
from folio.stages.kept import plain
from folio.stages.use import load_run

SHOWN = ("gold", "accuracy", "style", "exact")
MAX_NEW_TOKENS = 40


@dataclass(frozen=True)
class Gains:
    """Results by exam and run: {"core": {"sft": {"greedy": {"all": {...}}}}}.

    core: the tasks that were trained, in wordings that training uses. unseen: in
    wordings that it never does. ladder: harder tasks, which are only reported.
    """

    exams: dict[str, dict[str, Results]]

    def mean(self, run: str, measure: str, mode: str = "sampled", exam="core") -> float:
        return self.exams[exam][run][mode][ALL][measure].mean

    def by_task(self, run: str, exam: str = "core", mode="sampled") -> dict[str, float]:
        """The share of right answers in each task."""
        found = self.exams[exam][run][mode]
        return {task: m["accuracy"].mean for task, m in found.items() if task != ALL}

    def to_dict(self) -> dict[str, Any]:
        return plain(self.exams)

    def table(self) -> str:
        """Three tables: the measures, unseen wordings beside seen ones, the tasks."""
        runs = list(self.exams["core"])
        count = self.exams["core"][runs[0]]["sampled"][ALL]["gold"].count
        ways = ("greedy", "T=1")
        rows = [["", *(f"{name}, {way}" for name in SHOWN for way in ways)]]
        for run in runs:
            found = self.exams["core"][run]
            cells = [
                with_noise(found[mode][ALL][name])
                for name in SHOWN
                for mode in ("greedy", "sampled")
            ]
            rows.append([run, *cells])
        text = (
            f"{count} held-out prompts; gold: 1 for a right answer, 0.5 for the "
            "preferred style; ±: 95 %, by the prompts drawn\n"
        )
        text += aligned(rows)
        if "unseen" in self.exams:
            rows = [["right answers (T=1)", "seen wordings", "unseen wordings"]]
            for run in runs:
                pair = (self.exams[e][run]["sampled"][ALL] for e in ("core", "unseen"))
                rows.append([run, *(with_noise(found["accuracy"]) for found in pair)])
            text += "\n\n" + aligned(rows)
        for exam, title in (("core", "core tasks"), ("ladder", "the harder ladder")):
            if exam in self.exams:
                text += f"\n\n{self._tasks(exam, title)}"
        return text

    def _tasks(self, exam: str, title: str) -> str:
        runs = list(self.exams[exam])
        tasks = list(self.by_task(runs[0], exam))
        rows = [[f"right answers (T=1), {title}", *tasks]]
        for run in runs:
            found = self.by_task(run, exam)
            rows.append([run, *(f"{found[task]:.2f}" for task in tasks)])
        return aligned(rows)


def with_noise(measure: Measure) -> str:
    """
    >>> with_noise(Measure(0.5, 0.44, 0.56, 250))
    '0.50 ±.06'
    """
    half = f"{(measure.high - measure.low) / 2:.2f}".lstrip("0")
    return f"{measure.mean:.2f} ±{half}"


def judge_runs(
    runs: Mapping[str, Path],
    *,
    prompts: int = 500,
    samples: int = 4,
    tasks: Sequence[str] = tales.CORE,
    ladder: Sequence[str] = tales.LADDER,
    device: str = "auto",
) -> Gains:
    """Every run takes the same exams, greedy and sampled at temperature 1."""
    exams = {
        "core": tales_exam(tasks, prompts, EXAM_SEED),
        "unseen": tales_exam(tasks, prompts, EXAM_SEED, held_out=True),
    }
    if ladder:
        exams["ladder"] = tales_exam(ladder, prompts // 2, EXAM_SEED)
    evaluators = {name: evaluator_of(exam, samples) for name, exam in exams.items()}
    found: dict[str, dict[str, Results]] = {name: {} for name in exams}
    for run, folder in runs.items():
        model, tokenizer = load_run(folder, device)
        respond = respond_with(model, tokenizer, MAX_NEW_TOKENS)
        for name, evaluator in evaluators.items():
            found[name][run] = evaluator(respond)
    return Gains(found)


def evaluator_of(exam: Exam, samples: int) -> AnswerEvaluator:
    return AnswerEvaluator(
        exam.prompts, samples, Sampling(), exam.scores, exam.right, ks=(samples,)
    )
