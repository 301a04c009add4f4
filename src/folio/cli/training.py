"""Verbs that read a recipe: the stages, and what tells of a recipe without running it.

Any field of a recipe is a dotted flag (`--optim.lr 6e-4`), checked by the same code as
the recipe's file; see `folio.config`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from folio.cli.parser import Parser, Verbs, add_verb, given

STAGES = {  # verb: what it does, where its recipe and its function are
    "pretrain": ("train a model on text", "recipe.PretrainRecipe", "pretrain"),
    "sft": ("teach a model to answer", "tuning.SFTRecipe", "sft"),
    "reward": ("train a reward model on preferences", "tuning.RewardRecipe", "reward"),
    "dpo": ("learn from preferences directly", "tuning.DPORecipe", "dpo"),
    "ppo": ("improve a model by PPO", "tuning.PPORecipe", "rl"),
    "grpo": ("improve a model by GRPO", "tuning.GRPORecipe", "rl"),
    "distill": ("learn from a larger run", "tuning.DistillRecipe", "distill"),
}
RECIPE_VERBS = ("tokenizer", "prepare", "show", "plan", "profile", *STAGES)
# any other flag of a verb with a recipe is one of its fields
OWN_FLAGS = ("--run", "--resume", "--out", "--stage", "--help", "--steps", "--devices")
OWN_FLAGS += ("--memory", "--tflops", "--mfu", "--bandwidth", "--price", "--tokens")
OWN_FLAGS += ("--parts", "--part", "--merge")


def add_training(verbs: Verbs) -> None:
    """Verbs that learn something."""
    tokenizer = _add_recipe_verb(
        verbs, "tokenizer", "learn the tokenizer that a recipe describes", _tokenizer
    )
    tokenizer.add_argument("--out", type=Path, default=Path("tokenizer.json"))
    prepare = _add_recipe_verb(
        verbs,
        "prepare",
        "write a recipe's token files in parts, by many processes",
        _prepare,
    )
    prepare.add_argument("--parts", type=int, required=True, help="how many in all")
    prepare.add_argument("--part", type=int, help="the one to write, from 0 on")
    prepare.add_argument("--merge", action="store_true", help="all parts are there")
    for name, (text, *_) in STAGES.items():
        stage = _add_recipe_verb(verbs, name, text, _train)
        stage.add_argument("--run", type=Path, help="its folder (default: runs/NAME)")
        stage.add_argument(
            "--resume", action="store_true", help="go on with an interrupted run"
        )
    demo = add_verb(verbs, "demo", "the whole path in minutes, with a report", _demo)
    demo.add_argument("--smoke", action="store_true", help="in half a minute")
    demo.add_argument("--run", type=Path, help="(default: a new folder under runs/)")
    demo.add_argument("--seed", type=int, default=1)


def add_planning(verbs: Verbs) -> None:
    """Verbs that say what a training needs, here or elsewhere."""
    show = _add_recipe_verb(
        verbs, "show", "what a recipe would do: sizes, costs, fields", _show
    )
    show.add_argument("--stage", choices=STAGES, default="pretrain")
    plan = _add_recipe_verb(
        verbs,
        "plan",
        "what a recipe would need on other machines: memory, time, cost",
        _plan,
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
        verbs, "profile", "where the time and the memory of a step go", _profile
    )
    profile.add_argument("--steps", type=int, default=20, help="that are timed")
    profile.add_argument("--out", type=Path, help="(default: runs/profile-NAME)")
    scaling = add_verb(
        verbs,
        "scaling",
        "a family of small runs, their law, and a larger one foretold",
        _scaling,
    )
    scaling.add_argument("recipe", type=Path, help="such as recipes/tiny/scaling.toml")
    scaling.add_argument("--out", type=Path, help="(default: beside the runs)")
    scaling.add_argument("--quick", action="store_true", help="a few steps of each")


def _add_recipe_verb(
    verbs: Verbs, name: str, text: str, do: Callable[[argparse.Namespace], None]
) -> Parser:
    verb = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="Any field of the recipe is a flag: --train.steps 200 --optim.lr 6e-4. "
        "`folio show RECIPE` lists them.",
        allow_abbrev=False,
    )
    verb.add_argument("recipe", type=Path, help="a TOML file, such as recipes/tiny/*")
    verb.set_defaults(do=do)
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


def _recipe(options: argparse.Namespace, stage: str):
    """The recipe with the command line's fields on top, as its stage reads it."""
    from folio.stages.parent import load_recipe

    home, _, name = STAGES[stage][1].partition(".")
    schema = getattr(import_module(f"folio.stages.{home}"), name)
    return load_recipe(schema, options.recipe, options.overrides)


def _train(options: argparse.Namespace) -> None:
    recipe, module = _recipe(options, options.verb), STAGES[options.verb][2]
    stage = getattr(import_module(f"folio.stages.{module}"), options.verb)
    folder = options.run or Path("runs") / recipe.name
    stage(recipe, folder, resume=options.resume)


def _tokenizer(options: argparse.Namespace) -> None:
    from folio.stages.tokenizer import learn_tokenizer

    learn_tokenizer(_recipe(options, "pretrain"), options.out)


def _prepare(options: argparse.Namespace) -> None:
    from folio.stages.prepare import prepare_in_parts

    recipe = _recipe(options, "pretrain")
    prepare_in_parts(recipe, **given(options, ("parts", "part", "merge")))


def _show(options: argparse.Namespace) -> None:
    from folio.stages.show import show

    show(_recipe(options, options.stage))


def _plan(options: argparse.Namespace) -> None:
    from folio.stages.plan import plan_training

    names = ("devices", "memory", "tflops", "mfu", "bandwidth", "price", "tokens")
    plan_training(_recipe(options, options.stage), **given(options, names))


def _profile(options: argparse.Namespace) -> None:
    from folio.stages.profile import profile_training

    recipe = _recipe(options, "pretrain")
    folder = options.out or Path("runs") / f"profile-{recipe.name}"
    profile_training(recipe, options.steps, folder)


def _scaling(options: argparse.Namespace) -> None:
    from folio.stages.scaling import run_scaling

    run_scaling(options.recipe, out=options.out, quick=options.quick)


def _demo(options: argparse.Namespace) -> None:
    from folio.stages.demo import demo

    demo(options.run, smoke=options.smoke, seed=options.seed)
