"""What the stages after pretraining do alike: tokenizer, template, data, parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from folio.config import UserError
from folio.data.parts import divide
from folio.model.decoder import Decoder
from folio.runtime import data_rank, data_world, find_device
from folio.stages.assemble import Say
from folio.stages.parent import load_decoder
from folio.stages.prepare import check_enough, load_tokenizer
from folio.stages.tuning import RecordsRecipe, TunedRecipe
from folio.text.chat import ChatTemplate
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

T = TypeVar("T")


def prepare_tuned(recipe: TunedRecipe, run: Run, resume: bool, say: Say) -> None:
    """The parent's tokenizer becomes the run's; it must know how turns are told."""
    path = run.model / "tokenizer.json"
    if resume and path.is_file():
        return
    tokenizer = load_tokenizer(recipe.parent)
    try:
        ChatTemplate.of(tokenizer)
    except UserError as error:
        raise UserError(f"parent = {recipe.parent!r}: {error}") from None
    tokenizer.save(path)


def read_parts(
    data: RecordsRecipe, read: Callable[[str], Sequence[T]], say: Say
) -> tuple[list[T], list[T]]:
    """A file's training and held-out records."""
    try:
        parts = divide(read(data.path), shares_of(data))
    except UserError as error:
        raise UserError(f"{data.path}: {error}") from None
    train, val = parts["train"], parts["validation"]
    check_enough(len(train), "records")
    say(f"{data.path}: {len(train):,} records to learn from, {len(val):,} held out")
    return train, val


def shares_of(data: RecordsRecipe) -> dict[str, float]:
    """The parts of a file; a test part only if it is to have a share."""
    names = ("train", "validation", "test")
    return {n: s for n, s in zip(names, data.split, strict=True) if s > 0}


def frozen(parent: str, device: str) -> Decoder:
    """The parent as it was: nobody trains it."""
    model = load_decoder(Path(parent), find_device(device))
    return model.requires_grad_(False)


def dealt(recipe: TunedRecipe, say: Say) -> dict:
    """What streams are told of the run and of this rank."""
    return {
        "seed": recipe.seed,
        "rank": data_rank(),
        "world": data_world(),
        "say": say,
    }


def check_same_tokenizer(path: str, tokenizer: Tokenizer, name: str) -> None:
    """UserError if a run that helps (a reward model, a teacher) has another one."""
    if load_tokenizer(path).fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"{name} = {path!r} has another tokenizer than the parent, so neither "
            "understands the other's tokens; use runs that share one"
        )
