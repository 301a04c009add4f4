"""Reward models: the better answer of a pair gets the higher score."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev

from folio.config import UserError
from folio.data.pairs import PairStream
from folio.data.records import Pair
from folio.evals.held_out import held_out
from folio.evals.preference import by_category
from folio.evals.scoring import Score, scores_with
from folio.model.decoder import Decoder
from folio.model.scorer import Scorer, ScorerConfig
from folio.stages.assemble import Parts, Say, fill_vocab, learner_of
from folio.stages.parent import parent_model
from folio.stages.preferences import preferences, prepare_preferences
from folio.stages.stage import run_stage
from folio.stages.tuned import dealt
from folio.stages.tuning import RewardRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run


def reward(
    recipe: RewardRecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Train a reward model, and note on which scale its scores are; see `run_stage`."""
    if recipe.train.eval_every < 1:
        raise UserError(
            "train.eval_every = 0: a reward model is calibrated when it is measured; "
            "set it to 1 or more"
        )
    return run_stage(
        recipe,
        folder,
        partial(prepare_preferences, recipe, recipe.data),
        partial(assemble_reward, recipe),
        resume=resume,
        say=say,
    )


def assemble_reward(
    recipe: RewardRecipe, run: Run, tokenizer: Tokenizer, say: Say
) -> Parts:
    """Pairs; accuracy on held-out ones by what they differ in, and a calibration."""
    found = preferences(recipe.data, run, recipe.seed, say, endless=True)
    model = make_scorer(recipe, tokenizer.vocab_size)
    learner = learner_of(recipe, model)
    # an encoder looks ahead, so it must know what is padding
    options = {"length": recipe.length, "masked": recipe.kind == "encoder"}
    options["categories"] = found.categories
    batch = recipe.train.batch
    stream = PairStream(
        found.train, tokenizer, batch=batch, **options, **dealt(recipe, say)
    )
    held = PairStream(
        found.val, tokenizer, batch=recipe.train.eval_batch, say=say, **options
    )
    batches, pairs = held.once(), [pair for pair, _ in held.kept]
    score = scores_with(model, tokenizer, say=say)

    def measure() -> dict[str, float]:
        values = held_out(recipe.ranking, model, batches, learner.autocast)
        return values | judged(model, score, pairs)

    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        stream,
        recipe.ranking,
        kept=model,
        measure=measure,
        unit="pairs",
        facts={"data": {"name": recipe.data.path or "tales"} | found.facts},
    )


def make_scorer(recipe: RewardRecipe, vocab_size: int) -> Scorer:
    """The parent's trunk, or a fresh one of its shape, and a head that says nothing."""
    config = fill_vocab(recipe.model, vocab_size)
    trunk = Decoder(config) if recipe.fresh else parent_model(recipe.parent, config)
    return Scorer(trunk, ScorerConfig(recipe.kind))


def judged(model: Scorer, score: Score, pairs: list[Pair]) -> dict[str, float]:
    """Accuracy by category; the mean and deviation of scores become the model's own.

    So the weights that are kept know on which scale their scores are.
    """
    scores = score(
        [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    )
    deviation = pstdev(scores)
    model.config = replace(
        model.config, mean=fmean(scores), deviation=deviation if deviation > 0 else 1.0
    )
    margins = [a - b for a, b in zip(scores[::2], scores[1::2], strict=True)]
    accuracies = by_category(pairs, margins)
    del accuracies["all"]  # the objective says that
    return {f"val_accuracy.{n}": measure.mean for n, measure in accuracies.items()}
