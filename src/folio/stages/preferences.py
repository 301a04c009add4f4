"""Where the pairs of a reward model or of DPO come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from folio.config import UserError
from folio.data.embedded import PAIR_CATEGORIES, tales_pairs, tales_prompts
from folio.data.order import Source
from folio.data.records import Pair, Prompt, read_pairs
from folio.data.sampled import sampled_pairs
from folio.data.verifiers import tales_score
from folio.evals.respond import respond_with
from folio.files import write_atomically
from folio.infer.sampling import Sampling
from folio.stages.assemble import Say
from folio.stages.tuned import prepare_tuned, read_parts
from folio.stages.tuning import PairsRecipe, TunedRecipe
from folio.stages.use import load_run
from folio.training.run import Run

SAMPLED = "pairs.jsonl"  # what the parent's answers became, in the run's folder


@dataclass(frozen=True)
class Preferences:
    """Pairs to learn from, held-out ones, and which categories may come."""

    train: Source[Pair]
    val: list[Pair]
    categories: tuple[str, ...]

    @property
    def facts(self) -> dict[str, int]:
        counted = {"val_pairs": len(self.val)}
        if isinstance(self.train, list):
            counted["train_pairs"] = len(self.train)
        return counted

    def prompts(self) -> list[Prompt]:
        """The held-out prompts, their chosen answers as gold."""
        return [Prompt(p.prompt, p.chosen, p.chosen, where=p.where) for p in self.val]


def prepare_preferences(
    recipe: TunedRecipe, data: PairsRecipe, run: Run, resume: bool, say: Say
) -> None:
    """The tokenizer, and pairs made of the parent's own answers if they are asked for.

    They are written down: what a run learned from can be read, and used again.
    """
    prepare_tuned(recipe, run, resume, say)
    path = run.folder / SAMPLED
    if not data.sampled or (resume and path.is_file()):
        return
    if data.path is not None:
        raise UserError(
            f"data.sampled = {data.sampled}: answers are ranked by the truth, which is "
            "known in the embedded world only; leave out data.path or data.sampled"
        )
    model, tokenizer = load_run(Path(recipe.parent), recipe.train.device)
    source = tales_prompts(recipe.seed, "train", data.tasks)
    prompts = [source.make(i) for i in range(data.sampled)]
    respond = respond_with(
        model, tokenizer, data.max_new_tokens, seed=recipe.seed, say=say
    )
    answers = respond(prompts, Sampling(data.temperature), data.samples)
    pairs = sampled_pairs(prompts, answers, tales_score, say)
    lines = [json.dumps(as_record(pair), ensure_ascii=False) for pair in pairs]
    write_atomically(path, "\n".join(lines) + "\n")


def as_record(pair: Pair) -> dict:
    """A pair as `read_pairs` reads it again."""
    return {
        "prompt": list(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "margin": pair.margin,
        "category": pair.category,
    }


def preferences(
    data: PairsRecipe, run: Run, seed: int, say: Say, *, endless: bool
) -> Preferences:
    """What the recipe asks for. `endless`: the stage can do with pairs without end."""
    if data.path is not None:
        train, val = read_parts(data, lambda path: read_pairs(path, say), say)
        return Preferences(train, val, ())
    options = {"mistakes": data.mistakes, "categories": data.categories}
    source = tales_pairs(seed, "train", data.tasks, flip=data.flip, **options)
    held = tales_pairs(0, "validation", data.tasks, **options)
    val = [held.make(i) for i in range(data.val_examples)]
    train = [source.make(i) for i in range(data.examples)]
    if data.sampled:
        train += read_pairs(run.folder / SAMPLED, say)
    if train:
        return Preferences(train, val, PAIR_CATEGORIES)
    if not endless:
        raise UserError(
            "data.examples = 0: this stage needs a fixed number of pairs; set it, or "
            "data.sampled"
        )
    return Preferences(source, val, PAIR_CATEGORIES)
