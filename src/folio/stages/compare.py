"""`folio compare`: run what an experiment lacks, then write down what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from folio.config import UserError, build, nearest, read_toml
from folio.files import exclusive
from folio.stages.assemble import Say, fill_vocab
from folio.stages.experiment import (
    Experiment,
    Trial,
    check_equal,
    check_tokens,
    facts_of,
    make_trials,
    read_experiment,
)
from folio.stages.prepare import (
    load_tokenizer,
    recipe_corpus,
    texts_to_learn_from,
    train_tokenizer,
)
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.record import Facts, make_record, write_record
from folio.stages.use import compare_runs
from folio.training.run import Run
from folio.training.signals import Interrupted


def compare(
    paths: Sequence[Path],
    out: Path,
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    quick: bool = False,
) -> None:
    """Experiments, one after another, if files are named; finished runs, if folders."""
    files = [path for path in paths if path.suffix == ".toml"]
    if not files:
        if only or seeds or quick:
            raise UserError(
                "--only, --seeds and --quick are about an experiment's file"
            )
        compare_runs(list(paths), out)
        return
    if len(files) < len(paths):
        raise UserError("name experiments (files .toml) or runs (folders), not both")
    for path in files:
        run_experiment(path, only=only, seeds=seeds, quick=quick)


def run_experiment(
    path: Path,
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    quick: bool = False,
    runs: Path = Path("runs/experiments"),
    say: Say = print,
) -> Path | None:
    """Run every variant with every seed that isn't finished; record what came out.

    Runs go to `runs`/NAME/VARIANT-SEED, with a page; the record and its figure to
    results/NAME.json and .svg beside the experiment's file. `only` and `seeds` run a
    part: the record is written once all is there. `quick` makes a few steps of
    everything and leaves its record with its runs. Returns the record's path, or None
    if runs are missing.
    """
    experiment = read_experiment(path)
    name = path.stem + ("-quick" if quick else "")
    home = runs / name
    trials = make_trials(experiment, home, quick=False)
    check_tokens(trials)
    trials = make_trials(experiment, home, quick=True) if quick else trials
    selected = chosen(trials, only, seeds)
    say(f"{experiment.title}: {experiment.question}")
    with exclusive(home):
        facts = costs(experiment, trials, say)
        run_trials(selected, say)
        missing = [trial.folder.name for trial in trials if not is_finished(trial)]
        if missing:
            say(f"no record yet: {', '.join(missing)} not run")
            return None
        record = make_record(path, experiment, trials, facts)
        results = home if quick else path.parent / "results"
        return write_record(record | {"name": name, "quick": quick}, results, home, say)


# ---- running -------------------------------------------------------------------------


def chosen(
    trials: Sequence[Trial], only: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """The trials of the named variants and seeds; of all, where none is named."""
    variants = {trial.variant for trial in trials}
    for name in only:
        if name not in variants:
            raise UserError(f"no variant {name!r}{nearest(name, sorted(variants))}")
    known = {trial.seed for trial in trials}
    for seed in seeds:
        if seed not in known:
            raise UserError(
                f"no seed {seed} in this experiment; it has {sorted(known)}"
            )
    return [
        trial
        for trial in trials
        if (not only or trial.variant in only) and (not seeds or trial.seed in seeds)
    ]


def costs(experiment: Experiment, trials: Sequence[Trial], say: Say) -> Facts:
    """The facts of every variant, after seeing that what must be equal is."""
    vocab_size = shared_vocabulary(trials[0], say)
    facts = {
        trial.variant: facts_of(fill_vocab(trial.recipe.model, vocab_size))
        for trial in trials
    }
    check_equal(experiment, facts)
    return facts


def shared_vocabulary(trial: Trial, say: Say) -> int:
    """Learn the tokenizer that all trials share, unless it is there; its size."""
    path = Path(trial.recipe.tokenizer.path)
    if not path.exists():
        say(f"learning a {trial.recipe.tokenizer.kind} tokenizer")
        corpus = recipe_corpus(trial.recipe.data, trial.seed)
        texts = texts_to_learn_from(corpus, trial.recipe)
        train_tokenizer(trial.recipe.tokenizer, texts).save(path)
    return load_tokenizer(path).vocab_size


def is_finished(trial: Trial) -> bool:
    """Has this very trial been run to its end? One of another recipe is refused."""
    run = Run(trial.folder)
    if not run.recipe.is_file():
        return False
    if build(PretrainRecipe, read_toml(run.recipe)) != trial.recipe:
        raise UserError(
            f"{trial.folder} was run with another recipe; remove it to run it again"
        )
    return run.read_info().get("status") == "finished"


def run_trials(trials: Sequence[Trial], say: Say) -> None:
    """Run those that aren't finished; an interrupted one goes on where it stopped."""
    for number, trial in enumerate(trials, 1):
        if is_finished(trial):
            continue
        say(f"[{number}/{len(trials)}] {trial.variant}, seed {trial.seed}")
        resume = Run(trial.folder).recipe.is_file()
        try:
            pretrain(trial.recipe, trial.folder, resume=resume, say=_silent)
        except Interrupted:
            raise Interrupted("stopped; the same command goes on from here") from None


def _silent(text: str) -> None:
    """What the runs themselves say."""
