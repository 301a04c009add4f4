"""Verbs that measure and show."""

from __future__ import annotations

import argparse
from importlib import import_module
from inspect import signature
from pathlib import Path

from folio.cli.parser import Verbs, add_run, add_verb, given
from folio.config import UserError, nearest

TASKS = {  # of `folio eval`: the function in stages/ that measures it
    "perplexity": "use.evaluate_perplexity",
    "answers": "evaluate.evaluate_answers",
    "choices": "choices.evaluate_choices",
    "harness": "harness.evaluate_harness",
    "judge": "judge.evaluate_judge",
    "preference": "evaluate.evaluate_preference",
    "sanity": "evaluate.evaluate_sanity",
}
NO_FLAGS = ("verb", "run", "task", "do", "overrides")


def add_judging(verbs: Verbs) -> None:
    """eval, compare, report."""
    _add_eval(verbs)
    text = "curves and tables of several runs, or a whole experiment"
    compare = add_verb(verbs, "compare", text, _compare)
    compare.add_argument(
        "paths", type=Path, nargs="+", metavar="RUN", help="runs, or experiments/*.toml"
    )
    compare.add_argument("--out", type=Path, default=Path("compare.html"))
    compare.add_argument("--only", nargs="+", default=(), metavar="VARIANT")
    compare.add_argument("--seeds", type=int, nargs="+", default=())
    compare.add_argument("--quick", action="store_true", help="a few steps of each")
    report = add_verb(verbs, "report", "write a run's report.html again", _report)
    add_run(report)


def _add_eval(verbs: Verbs) -> None:
    text = "measure a run: on held-out text, prompts, choices, preferences"
    evaluate = add_verb(verbs, "eval", text, _evaluate)
    add_run(evaluate)
    evaluate.add_argument(
        "task", nargs="?", default="perplexity", help=", ".join(TASKS)
    )
    add = evaluate.add_argument
    add("--path", dest="data", help="a file instead of the run's own or embedded")
    add("--tasks", nargs="+", help="of the embedded world; of harness: its own")
    add("--count", type=int, help="prompts, questions or pairs")
    add("--samples", type=int, help="answers to each prompt")
    add("--temperature", type=float)
    add("--max-new-tokens", type=int)
    add("--seed", type=int)
    add("--device")
    add("--chat", action="store_true", default=None, help="choices: as a user asks")
    add("--shots", type=int, help="harness: examples before each question")
    add("--best-of", type=int, help="answers: of which a judge takes the best")
    add("--judge", type=Path, help="answers: the reward model that takes it")
    add("--policy", type=Path, help="sanity: whose answers are scored")
    add("--training", help="sanity, preference: pairs that a baseline may learn from")
    add("--model", help="judge: the name of the model that judges")
    add("--url", help="judge: the server it is on (or FOLIO_JUDGE_URL)")
    add("--against", type=Path, help="judge: the run to compare with")
    add("--template", type=Path, help="judge: what it is asked, with {question}")
    add("--at-once", type=int, help="judge: requests under way")
    add("--timeout", type=float, help="judge: seconds for one verdict")


def _evaluate(options: argparse.Namespace) -> None:
    """Call what measures the task, with the flags that were given.

    A flag is a parameter of that function; one that it doesn't have is a mistake.
    """
    task = options.task
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}{nearest(task, list(TASKS))}")
    module, name = TASKS[task].split(".")
    function = getattr(import_module(f"folio.stages.{module}"), name)
    known = signature(function).parameters
    flags = {n: value for n, value in vars(options).items() if value is not None}
    flags = {n: value for n, value in flags.items() if n not in NO_FLAGS}
    for flag in flags:
        if flag not in known:
            dashed = "path" if flag == "data" else flag.replace("_", "-")
            raise UserError(f"--{dashed}: `folio eval RUN {task}` has no use for it")
    for needed, parameter in known.items():
        if parameter.default is parameter.empty and needed not in (*flags, "folder"):
            raise UserError(f"`folio eval RUN {task}` needs --{needed}")
    function(options.run, **flags)


def _compare(options: argparse.Namespace) -> None:
    from folio.stages.compare import compare

    names = ("only", "seeds", "quick")
    compare(options.paths, options.out, **given(options, names))


def _report(options: argparse.Namespace) -> None:
    from folio.viz.report import write_report

    print(write_report(options.run))
