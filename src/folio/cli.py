"""The command line: one verb per stage. Nothing heavy is imported before it is needed.

Recipe fields are given as dotted flags (`--optim.lr 6e-4`) and checked by the same
code as the recipe's file; see `folio.config`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from folio import __version__
from folio.config import UserError

EXIT_USER, EXIT_INTERRUPTED = 2, 130
STAGES = {  # verb: what it does, where its recipe and its function are
    "pretrain": ("train a model on text", "recipe.PretrainRecipe", "pretrain"),
    "sft": ("teach a model to answer", "tuning.SFTRecipe", "sft"),
    "reward": ("train a reward model on preferences", "tuning.RewardRecipe", "reward"),
    "dpo": ("learn from preferences directly", "tuning.DPORecipe", "dpo"),
    "ppo": ("improve a model by PPO", "tuning.PPORecipe", "rl"),
    "grpo": ("improve a model by GRPO", "tuning.GRPORecipe", "rl"),
    "distill": ("learn from a larger run", "tuning.DistillRecipe", "distill"),
}
RECIPE_VERBS = ("tokenizer", "show", "plan", "profile", *STAGES)
# any other flag of a verb with a recipe is one of its fields
OWN_FLAGS = ("--run", "--resume", "--out", "--stage", "--help", "--steps", "--devices")
OWN_FLAGS += ("--memory", "--tflops", "--mfu", "--bandwidth", "--price", "--tokens")


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
    _add_training(verbs)
    _add_writing(verbs)
    _add_judging(verbs)
    _add_exchange(verbs)
    demo = verbs.add_parser("demo", help="the whole path in minutes, with a report")
    demo.add_argument("--smoke", action="store_true", help="in half a minute")
    demo.add_argument("--run", type=Path, help="(default: a new folder under runs/)")
    demo.add_argument("--seed", type=int, default=1)
    return parser


def _add_training(verbs) -> None:
    """Verbs that read a recipe."""
    _add_recipe_verb(verbs, "tokenizer", "learn the tokenizer that a recipe describes")
    for name, (text, *_) in STAGES.items():
        stage = _add_recipe_verb(verbs, name, text)
        stage.add_argument("--run", type=Path, help="its folder (default: runs/NAME)")
        stage.add_argument(
            "--resume", action="store_true", help="go on with an interrupted run"
        )
    show = _add_recipe_verb(
        verbs, "show", "what a recipe would do: sizes, costs, fields"
    )
    show.add_argument("--stage", choices=STAGES, default="pretrain")
    _add_planning(verbs)


def _add_planning(verbs) -> None:
    """Verbs that say what a training needs, here or elsewhere."""
    plan = _add_recipe_verb(
        verbs, "plan", "what a recipe would need on other machines: memory, time, cost"
    )
    plan.add_argument("--stage", choices=STAGES, default="pretrain")
    plan.add_argument("--devices", type=int, default=1)
    plan.add_argument("--memory", type=float, required=True, help="GB of each device")
    plan.add_argument("--tflops", type=float, required=True, help="of each, at most")
    plan.add_argument("--mfu", type=float, default=0.4, help="share of it reached")
    plan.add_argument("--bandwidth", type=float, help="GB/s that a device sends")
    plan.add_argument("--price", type=float, help="of a device hour")
    plan.add_argument("--tokens", type=float, help="instead of the recipe's steps")
    profile = _add_recipe_verb(
        verbs, "profile", "where the time and the memory of a step go"
    )
    profile.add_argument("--steps", type=int, default=20, help="that are timed")
    profile.add_argument("--out", type=Path, help="(default: runs/profile-NAME)")
    scaling = verbs.add_parser(
        "scaling", help="a family of small runs, their law, and a larger one foretold"
    )
    scaling.add_argument("recipe", type=Path, help="such as recipes/tiny/scaling.toml")
    scaling.add_argument("--out", type=Path, help="(default: beside the runs)")
    scaling.add_argument("--quick", action="store_true", help="a few steps of each")


def _add_writing(verbs) -> None:
    """Verbs that let a run's model write."""
    generate = verbs.add_parser("generate", help="write on from a prompt")
    generate.add_argument("run", type=Path, help="the folder of a run")
    generate.add_argument("prompt", nargs="?", default="", help="empty: a new text")
    generate.add_argument("--max-new-tokens", type=int, default=200)
    _add_sampling(generate, temperature=0.8)
    generate.add_argument("--samples", type=int, default=1, help="seeds SEED, SEED+1..")
    guess = generate.add_mutually_exclusive_group()
    guess.add_argument(
        "--draft",
        type=Path,
        help="a smaller run that guesses ahead: same texts, faster",
    )
    guess.add_argument(
        "--lookup", type=int, metavar="N", help="guess from the last N tokens' repeats"
    )
    generate.add_argument("--ahead", type=int, default=4, help="tokens guessed at once")
    talk = verbs.add_parser("chat", help="talk with a model in the terminal")
    talk.add_argument("run", type=Path, help="the folder of a run")
    talk.add_argument("--system", default="", help="who the model is to be")
    talk.add_argument("--max-new-tokens", type=int, default=512)
    _add_sampling(talk, temperature=0.7)
    stream = verbs.add_parser(
        "stream", help="write on without end, in constant memory, until Ctrl-C"
    )
    stream.add_argument("run", type=Path, help="the folder of a run")
    stream.add_argument("--prompt", default="")
    stream.add_argument("--window", type=int, help="(default: the model's reach)")
    stream.add_argument("--sinks", type=int, help="first tokens kept (default: 4)")
    stream.add_argument("--max-new-tokens", type=int, help="(default: no end)")
    _add_sampling(stream, temperature=0.8)


def _add_sampling(verb: argparse.ArgumentParser, temperature: float) -> None:
    verb.add_argument(
        "--temperature", type=float, default=temperature, help="0: greedy"
    )
    verb.add_argument("--top-k", type=int)
    verb.add_argument("--top-p", type=float)
    verb.add_argument("--min-p", type=float)
    verb.add_argument("--repetition-penalty", type=float, default=1.0)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--device", default="auto")


def _add_judging(verbs) -> None:
    """Verbs that measure and show."""
    evaluate = verbs.add_parser(
        "eval", help="measure a run on held-out text, prompts or preferences"
    )
    evaluate.add_argument("run", type=Path)
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
    samples = verbs.add_parser(
        "samples", help="the same prompts through several runs, side by side"
    )
    samples.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    samples.add_argument("--prompt", action="append", default=[], dest="prompts")
    samples.add_argument("--plain", action="store_true", help="write on, don't answer")
    samples.add_argument("--out", type=Path, help="a Markdown page as well")
    samples.add_argument("--max-new-tokens", type=int, default=64)
    samples.add_argument("--temperature", type=float, default=1.0)
    samples.add_argument("--seed", type=int, default=0)
    samples.add_argument("--device", default="auto")
    compare = verbs.add_parser(
        "compare", help="curves and tables of several runs, or a whole experiment"
    )
    compare.add_argument(
        "paths", type=Path, nargs="+", metavar="RUN", help="runs, or experiments/*.toml"
    )
    compare.add_argument("--out", type=Path, default=Path("compare.html"))
    compare.add_argument("--only", nargs="+", default=(), metavar="VARIANT")
    compare.add_argument("--seeds", type=int, nargs="+", default=())
    compare.add_argument("--quick", action="store_true", help="a few steps of each")
    report = verbs.add_parser("report", help="write a run's report.html again")
    report.add_argument("run", type=Path)


def _add_exchange(verbs) -> None:
    """Verbs that make another model of a model."""
    bring = verbs.add_parser("import", help="make a run of a Hugging Face folder")
    bring.add_argument("source", type=Path, help="config.json, *.safetensors, ...")
    bring.add_argument("run", type=Path)
    bring.add_argument("--dtype", default="float32", help="that weights are kept in")
    send = verbs.add_parser("export", help="write a run for transformers")
    send.add_argument("run", type=Path)
    send.add_argument("target", type=Path)
    send.add_argument("--format", default="hf")
    send.add_argument("--dtype", help="(default: as it was imported, else float32)")
    shrink = verbs.add_parser("quantize", help="round a run's weights to 8 or 4 bits")
    shrink.add_argument("run", type=Path)
    shrink.add_argument("out", type=Path)
    shrink.add_argument("--bits", type=int, default=8)
    shrink.add_argument("--group", type=int, default=32, help="weights per scale (4)")
    shrink.add_argument("--path", help="judge on another text than the run's own")
    shrink.add_argument("--device", default="auto")
    lora = verbs.add_parser("lora", help="what one does with low-rank updates")
    kinds = lora.add_subparsers(dest="action", required=True, parser_class=Parser)
    merge = kinds.add_parser("merge", help="a plain run with the updates merged in")
    merge.add_argument("run", type=Path)
    merge.add_argument("out", type=Path)
    hand_on = kinds.add_parser("export", help="write the updates alone, for PEFT")
    hand_on.add_argument("run", type=Path)
    hand_on.add_argument("out", type=Path)
    hand_on.add_argument(
        "--base", required=True, help="where the parent was exported to"
    )


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
        case "chat":
            from folio.stages.chat import chat

            chat(options)
        case "stream":
            from folio.stages.stream import stream_run

            stream_run(options)
        case "eval":
            _evaluate(options)
        case "samples":
            from folio.stages.samples import show_samples

            given = vars(options) | {"folders": options.runs}
            names = ("folders", "prompts", "out", "plain", "max_new_tokens")
            names += ("temperature", "seed", "device")
            show_samples(**{name: given[name] for name in names})
        case "compare":
            from folio.stages.compare import compare

            only, seeds, quick = options.only, options.seeds, options.quick
            compare(options.paths, options.out, only=only, seeds=seeds, quick=quick)
        case "scaling":
            from folio.stages.scaling import run_scaling

            run_scaling(options.recipe, out=options.out, quick=options.quick)
        case "report":
            from folio.viz.report import write_report

            print(write_report(options.run))
        case "demo":
            from folio.stages.demo import demo

            demo(options.run, smoke=options.smoke, seed=options.seed)
        case _:
            _exchange(options)


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
    given = {n: v for n in names if (v := getattr(options, n)) is not None}
    function = getattr(evaluate, f"evaluate_{options.task}")
    function(options.run, data=options.path, **given)


def _exchange(options: argparse.Namespace) -> None:
    """Verbs that make another model of a model."""
    match options.verb:
        case "import":
            from folio.stages.exchange import import_model

            import_model(options.source, options.run, dtype=options.dtype)
        case "export":
            from folio.stages.exchange import export_run

            export_run(
                options.run, options.target, format=options.format, dtype=options.dtype
            )
        case "quantize":
            from folio.stages.quantize import quantize_run

            quantize_run(
                options.run,
                options.out,
                bits=options.bits,
                group=options.group,
                path=options.path,
                device=options.device,
            )
        case "lora":
            from folio.stages.lora import export_adapter, merge_run

            if options.action == "merge":
                merge_run(options.run, options.out)
            else:
                export_adapter(options.run, options.out, options.base)
            print(f"wrote {options.out}")


def _run_recipe_verb(options: argparse.Namespace, overrides: list[str]) -> None:
    from folio.stages.parent import load_recipe

    stage = options.verb if options.verb in STAGES else "pretrain"
    if options.verb in ("show", "plan"):
        stage = options.stage
    _, schema, module = STAGES[stage]
    home, _, name = schema.partition(".")
    schema = getattr(import_module(f"folio.stages.{home}"), name)
    recipe = load_recipe(schema, options.recipe, overrides)
    match options.verb:
        case "show":
            from folio.stages.show import show

            show(recipe)
        case "plan":
            from folio.stages.plan import plan_training

            names = ("devices", "memory", "tflops", "mfu", "bandwidth", "price")
            given = {name: getattr(options, name) for name in (*names, "tokens")}
            plan_training(recipe, **given)
        case "profile":
            from folio.stages.profile import profile_training

            folder = options.out or Path("runs") / f"profile-{recipe.name}"
            profile_training(recipe, options.steps, folder)
        case "tokenizer":
            from folio.stages.tokenizer import learn_tokenizer

            learn_tokenizer(recipe, options.out)
        case _:
            run = getattr(import_module(f"folio.stages.{module}"), stage)
            folder = options.run or Path("runs") / recipe.name
            run(recipe, folder, resume=options.resume)


def _complain(text: str, reason: BaseException) -> None:
    """One line on standard error; of many processes that say the same, by one."""
    if "RANK" in os.environ:
        from folio.runtime import SaidElsewhereError, first_to_say

        if isinstance(reason, SaidElsewhereError) or not first_to_say(text):
            return
    print(f"folio: {text}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit with 0, 2 for the user's mistakes, 130 if interrupted."""
    try:
        words, overrides = split_overrides(arguments or sys.argv[1:])
        run_verb(build_parser().parse_args(words), overrides)
    except UserError as error:
        _complain(str(error), error)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt as stop:
        _complain(str(stop) or "interrupted", stop)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # somebody piped us into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
