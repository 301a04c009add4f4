"""Verbs that measure and show."""

from __future__ import annotations

import argparse
from pathlib import Path

from folio.cli.parser import Verbs, add_run, add_verb, given


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
    text = "measure a run on held-out text, prompts or preferences"
    evaluate = add_verb(verbs, "eval", text, _evaluate)
    add_run(evaluate)
    evaluate.add_argument(
        "task",
        nargs="?",
        default="perplexity",
        help="perplexity, answers; of a reward model preference or sanity",
    )
    evaluate.add_argument("--path", help="a file instead of the run's own or embedded")
    evaluate.add_argument(
        "--tasks", nargs="+", default=(), help="of the embedded world"
    )
    evaluate.add_argument("--count", type=int, default=500, help="prompts or pairs")
    evaluate.add_argument("--samples", type=int, help="answers to each prompt")
    evaluate.add_argument("--temperature", type=float, default=1.0)
    evaluate.add_argument("--max-new-tokens", type=int, default=48)
    evaluate.add_argument("--judge", type=Path, help="a reward model, for --best-of")
    evaluate.add_argument("--best-of", type=int, default=1, help="answers to choose of")
    evaluate.add_argument("--policy", type=Path, help="whose answers sanity scores")
    evaluate.add_argument("--training", help="pairs that a baseline may learn from")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--device", default="auto")


def _evaluate(options: argparse.Namespace) -> None:
    """What `folio eval` is to measure, with the flags that the task knows."""
    from folio.stages import evaluate
    from folio.stages.use import evaluate_run

    if options.task not in ("answers", "preference", "sanity"):
        evaluate_run(options.run, options.task, options.path, options.device)
        return
    names = ["tasks", "count", "seed", "device"]
    if options.task == "answers":
        names += ["samples", "temperature", "max_new_tokens", "judge", "best_of"]
    else:
        names += ["training"]
    if options.task == "sanity":
        names += ["samples", "temperature", "max_new_tokens", "policy"]
    flags = {n: v for n, v in given(options, names).items() if v is not None}
    function = getattr(evaluate, f"evaluate_{options.task}")
    function(options.run, data=options.path, **flags)


def _compare(options: argparse.Namespace) -> None:
    from folio.stages.compare import compare

    names = ("only", "seeds", "quick")
    compare(options.paths, options.out, **given(options, names))


def _report(options: argparse.Namespace) -> None:
    from folio.viz.report import write_report

    print(write_report(options.run))
