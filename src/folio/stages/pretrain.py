"""Pretraining: predict the next token of a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.runtime import data_rank, data_world
from folio.stages.assemble import Parts, Say, make_learner
from folio.stages.prepare import (
    check_enough,
    open_tokens,
    prepare_tokenizer,
    prepare_tokens,
)
from folio.stages.recipe import PretrainRecipe
from folio.stages.stage import run_stage
from folio.stages.watch import expert_hooks, watching_hooks
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

AlsoMeasure = Callable[[Decoder, Tokenizer], dict[str, float]]


def pretrain(
    recipe: PretrainRecipe,
    folder: Path,
    *,
    resume: bool = False,
    also_measure: AlsoMeasure | None = None,
    say: Say = print,
) -> Run:
    """Train a decoder on text; see `run_stage`.

    What `also_measure` gives is logged with each evaluation.
    """

    def prepare(run: Run, resume: bool, say: Say) -> None:
        prepare_pretraining(recipe, run, resume, say)

    def assemble(run: Run, tokenizer: Tokenizer, say: Say) -> Parts:
        return assemble_pretraining(recipe, run, tokenizer, also_measure)

    return run_stage(recipe, folder, prepare, assemble, resume=resume, say=say)


def prepare_pretraining(
    recipe: PretrainRecipe, run: Run, resume: bool, say: Say
) -> None:
    """Put the tokenizer and the token files where the run looks for them."""
    tokenizer = prepare_tokenizer(recipe, run, resume, say)
    prepare_tokens(recipe, tokenizer, run, say)


def assemble_pretraining(
    recipe: PretrainRecipe,
    run: Run,
    tokenizer: Tokenizer,
    also_measure: AlsoMeasure | None = None,
) -> Parts:
    """Windows of the text, and the loss over the whole held-out part."""
    tokens, held_out = open_tokens(recipe, tokenizer, run)
    learner = make_learner(recipe, tokenizer.vocab_size)
    model = learner.model
    stream = TextStream(
        tokens,
        batch=recipe.train.batch,
        length=recipe.length,
        seed=recipe.seed,
        rank=data_rank(),
        world=data_world(),
        order=recipe.data.order,
    )

    check_enough(stream.windows_per_epoch, f"windows of {recipe.length} tokens")

    def measure() -> dict[str, float]:
        values = perplexity(
            model, held_out, recipe.length, recipe.train.eval_batch, learner.autocast
        )
        if also_measure is not None:
            values |= also_measure(model, tokenizer)
        return values

    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        stream,
        next_token,
        kept=model,
        measure=measure,
        facts={
            "data": {
                "name": recipe.data.path or recipe.data.corpus,
                "train_tokens": len(tokens),
                "val_tokens": len(held_out),
                "train_bytes": tokens.text_bytes,
                "val_bytes": held_out.text_bytes,
                "fingerprint": tokens.fingerprint,
            }
        },
        figures={"tokens": token_figure(tokenizer, held_out)},
        first=expert_hooks(recipe, model, run),
        watch=watching_hooks(recipe, run, tokenizer, held_out),
    )


def token_figure(tokenizer: Tokenizer, tokens: Tokens, count: int = 96) -> dict:
    """The beginning of the held-out text, token by token, for the report."""
    ids = [int(i) for i in tokens[: min(count, len(tokens))]]
    special = set(tokenizer.special_tokens.values())
    return {
        "text": tokenizer.decode(ids),
        "tokens": [
            {
                "id": i,
                "text": tokenizer.token_bytes(i).decode("utf-8", "replace"),
                "bytes": len(tokenizer.token_bytes(i)),
                "special": i in special,
            }
            for i in ids
        ],
    }
