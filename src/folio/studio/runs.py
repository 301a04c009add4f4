"""Which runs there are: those that were named, and those under the root."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from folio.config import UserError, nearest
from folio.model.store import is_scorer
from folio.training.run import Run

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEEPEST = 2  # folders below the root: runs/demo/pretrain


def check_name(name: str) -> str:
    """A folder's name that can do no harm: the same, or a UserError."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or not name.strip("."):
        raise UserError(
            f"{str(name)[:80]!r} can't be the name of a run: use 1 to 64 letters, "
            "digits, '.', '_' and '-'"
        )
    return name


class Runs:
    """Runs by name. A name is looked up in what was found; it never makes a path."""

    def __init__(self, named: Sequence[Path], root: Path):
        """named: folders that hold runs, wherever they are; a UserError if not."""
        self.root = root
        for folder in named:
            if not holds_model(folder):
                raise UserError(
                    f"{folder} holds no run that can write: it has no model, or one "
                    "that only gives scores"
                )
        self.named = list(named)

    def found(self) -> dict[str, Path]:
        """Every run by the name it is shown with, the named ones first."""
        found: dict[str, Path] = {}
        for folder in self.named:
            whole = folder.resolve()
            name = whole.name
            if name in found and found[name].resolve() != whole:
                name = f"{whole.parent.name}/{name}"
            found.setdefault(name, folder)
        known = {folder.resolve() for folder in found.values()}
        for folder in sorted(runs_below(self.root)):
            if folder.resolve() not in known:
                name = folder.relative_to(self.root).as_posix()
                if name in found:
                    name = f"{self.root.name}/{name}"
                found[name] = folder
        return found

    def path(self, name: str | None) -> Path:
        """The folder of a run that was found; a UserError for anything else."""
        found = self.found()
        if not found:
            raise UserError(
                f"there is no run yet: train one under Training, or with `folio demo`; "
                f"runs are looked for in {self.root}"
            )
        if not name:
            raise UserError("choose a run first")
        if name not in found:
            shown = str(name)[:80]
            raise UserError(f"no run {shown!r}{nearest(shown, list(found))}")
        return found[name]

    def place(self, name: str) -> Path:
        """Where a new run of that name goes, right below the root."""
        return self.root / check_name(name)


def runs_below(root: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Folders with a model, not deeper than `depth`; no link leads out of the root."""
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if not NAME.fullmatch(folder.name) or folder.is_symlink():
            continue
        if not folder.is_dir():
            continue
        if holds_model(folder):
            yield folder
        elif depth > 1:
            yield from runs_below(folder, depth - 1)


def holds_model(folder: Path) -> bool:
    """Is there a language model in it? Reward models give scores and can't write."""
    model = Run(folder).model
    if not (model / "tokenizer.json").is_file():
        return False
    try:
        return (model / "config.json").is_file() and not is_scorer(model)
    except UserError:
        return False
