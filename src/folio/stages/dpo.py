"""DPO and its relatives: learn from pairs, with the parent as the reference."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from folio.data.pairs import PairStream
from folio.evals.held_out import held_out
from folio.stages.assemble import Parts, Say, make_learner
from folio.stages.exam import answers_measure, exam_of
from folio.stages.preferences import preferences, prepare_preferences
from folio.stages.stage import run_stage
from folio.stages.tuned import dealt, frozen
from folio.stages.tuning import DPORecipe
from folio.text.tokenizer import Tokenizer
from folio.training.learner import Learner
from folio.training.loop import Hook, Metrics
from folio.training.run import Run

SINKING = -1.0  # nats that a chosen answer has lost: the loss may be a mirage from here


def dpo(
    recipe: DPORecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Make the parent prefer what is preferred; see `run_stage`."""
    return run_stage(
        recipe,
        folder,
        partial(prepare_preferences, recipe, recipe.data),
        partial(assemble_dpo, recipe),
        resume=resume,
        say=say,
    )


def assemble_dpo(recipe: DPORecipe, run: Run, tokenizer: Tokenizer, say: Say) -> Parts:
    """Pairs with the parent's log-probs; held-out pairs, and answers to prompts."""
    found = preferences(recipe.data, run, recipe.seed, say, endless=False)
    learner = make_learner(recipe, tokenizer.vocab_size)
    options = {"length": recipe.length, "categories": found.categories}
    stream = PairStream(
        found.train,
        tokenizer,
        batch=recipe.train.batch,
        **options,
        **dealt(recipe, say),
    )
    held = PairStream(
        found.val, tokenizer, batch=recipe.train.eval_batch, say=say, **options
    )
    if recipe.dpo.loss != "simpo":  # which has no reference
        reference = frozen(recipe.parent, recipe.train.device)
        with learner.autocast():
            stream.with_reference(reference)
            held.with_reference(reference)
    batches = held.once()
    asked = found.prompts() if recipe.data.path else None
    exam = exam_of(asked, recipe.data.tasks, recipe.answers.prompts)
    answers = answers_measure(exam, recipe.answers, learner.model, tokenizer, say)

    def measure() -> dict[str, float]:
        values = held_out(recipe.dpo, learner.model, batches, learner.autocast)
        return values | answers()

    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        stream,
        recipe.dpo,
        kept=learner.model,
        measure=measure,
        best=None,  # a lower loss is no better answer: the two part where DPO fails
        unit="pairs",
        facts={"data": {"name": recipe.data.path or "tales"} | found.facts},
        watch=[alarm(run, say)],
    )


def alarm(run: Run, say: Say) -> Hook:
    """Say once when the chosen answers have become clearly *less* likely.

    The loss asks for a difference only; it falls while both log-probs sink, and the
    model's answers with them (Razin et al. 2024, "likelihood displacement").
    """
    told = False

    def hook(learner: Learner, metrics: Metrics) -> None:
        nonlocal told
        if told or metrics.get("chosen_change", 0.0) >= SINKING:
            return
        told = True
        text = (
            f"step {learner.step}: chosen answers have lost "
            f"{-metrics['chosen_change']:.1f} nats against the parent; lower optim.lr, "
            "or raise dpo.nll or dpo.beta, and look at the sampled answers"
        )
        say(f"warning: {text}")
        run.note(text)

    return hook
