"""The command line: one verb per stage. Nothing heavy is imported before it is needed.

Recipe fields are given as dotted flags (`--optim.lr 6e-4`) and checked by the same
code as the recipe's file; see `folio.config`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from folio import __version__
from folio.config import UserError

EXIT_USER, EXIT_INTERRUPTED = 2, 130
RECIPE_VERBS = ("tokenizer", "pretrain", "show")
OWN_FLAGS = ("--run", "--resume", "--out", "--help")  # any other is a recipe's field


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


def build_parser() -> Parser:
    """Every verb with its arguments."""
    parser = Parser(
        prog="folio",
        description="Build a large language model from scratch.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"folio {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=Parser
    )
    _add_recipe_verb(verbs, "tokenizer", "learn the tokenizer that a recipe describes")
    pretrain = _add_recipe_verb(verbs, "pretrain", "train a model on text")
    pretrain.add_argument("--run", type=Path, help="its folder (default: runs/NAME)")
    pretrain.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run"
    )
    _add_recipe_verb(verbs, "show", "what a recipe would do: sizes, costs, fields")
    generate = verbs.add_parser("generate", help="write on from a prompt")
    generate.add_argument("run", type=Path, help="the folder of a run")
    generate.add_argument("prompt", nargs="?", default="", help="empty: a new text")
    generate.add_argument("--max-new-tokens", type=int, default=200)
    generate.add_argument("--temperature", type=float, default=0.8, help="0: greedy")
    generate.add_argument("--top-k", type=int)
    generate.add_argument("--top-p", type=float)
    generate.add_argument("--min-p", type=float)
    generate.add_argument("--repetition-penalty", type=float, default=1.0)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--samples", type=int, default=1, help="seeds SEED, SEED+1..")
    generate.add_argument("--device", default="auto")
    evaluate = verbs.add_parser("eval", help="measure a run on held-out text")
    evaluate.add_argument("run", type=Path)
    evaluate.add_argument("task", nargs="?", default="perplexity")
    evaluate.add_argument("--path", help="another text than the run's own")
    evaluate.add_argument("--device", default="auto")
    compare = verbs.add_parser("compare", help="curves and tables of several runs")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    compare.add_argument("--out", type=Path, default=Path("compare.html"))
    report = verbs.add_parser("report", help="write a run's report.html again")
    report.add_argument("run", type=Path)
    demo = verbs.add_parser("demo", help="the whole path in minutes, with a report")
    demo.add_argument("--smoke", action="store_true", help="in half a minute")
    demo.add_argument("--run", type=Path, help="(default: a new folder under runs/)")
    demo.add_argument("--seed", type=int, default=1)
    return parser


def _add_recipe_verb(verbs, name: str, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="Any field of the recipe is a flag: --train.steps 200 --optim.lr 6e-4. "
        "`folio show RECIPE` lists them.",
        allow_abbrev=False,
    )
    verb.add_argument("recipe", type=Path, help="a TOML file, such as recipes/tiny/*")
    if name == "tokenizer":
        verb.add_argument("--out", type=Path, default=Path("tokenizer.json"))
    return verb


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What argparse is to read, and a recipe's fields, wherever they stand.

    >>> split_overrides(["pretrain", "--train.steps", "5", "r.toml", "--resume"])
    (['pretrain', 'r.toml', '--resume'], ['--train.steps', '5'])
    """
    if not arguments or arguments[0] not in RECIPE_VERBS:
        return list(arguments), []
    words, overrides, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word.split("=")[0] in OWN_FLAGS:
            words.append(word)
            continue
        overrides.append(word)
        if "=" not in word and rest:
            overrides.append(rest.pop(0))
    return words, overrides


def run_verb(options: argparse.Namespace, overrides: list[str]) -> None:
    """Import the stage behind a verb, and call it."""
    if options.verb in RECIPE_VERBS:
        _run_recipe_verb(options, overrides)
        return
    match options.verb:
        case "generate":
            from folio.stages.use import write_on

            write_on(options)
        case "eval":
            from folio.stages.use import evaluate_run

            evaluate_run(options.run, options.task, options.path, options.device)
        case "compare":
            from folio.stages.use import compare_runs

            compare_runs(options.runs, options.out)
        case "report":
            from folio.viz.report import write_report

            print(write_report(options.run))
        case "demo":
            from folio.stages.demo import demo

            demo(options.run, smoke=options.smoke, seed=options.seed)


def _run_recipe_verb(options: argparse.Namespace, overrides: list[str]) -> None:
    from folio.config import load_recipe
    from folio.stages.recipe import PretrainRecipe

    recipe = load_recipe(PretrainRecipe, options.recipe, overrides)
    match options.verb:
        case "show":
            from folio.stages.show import show

            show(recipe)
        case "tokenizer":
            from folio.stages.tokenizer import learn_tokenizer

            learn_tokenizer(recipe, options.out)
        case "pretrain":
            from folio.stages.pretrain import pretrain

            folder = options.run or Path("runs") / recipe.name
            pretrain(recipe, folder, resume=options.resume)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit with 0, 2 for the user's mistakes, 130 if interrupted."""
    try:
        words, overrides = split_overrides(arguments or sys.argv[1:])
        run_verb(build_parser().parse_args(words), overrides)
    except UserError as error:
        print(f"folio: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt as stop:
        print(f"folio: {str(stop) or 'interrupted'}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # somebody piped us into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
