"""The learner's folder: a file per exercise, and `progress.json`.

Nothing in it is ever overwritten or deleted: `reset` moves an answer aside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import write_atomically
from folio.learn.exercise import Exercise
from folio.learn.source import stub

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Folder:
    """Where a learner works."""

    path: Path

    def answer(self, exercise: Exercise) -> Path:
        """The file of one exercise, which may not be there yet."""
        return self.path / f"{exercise.name}.py"

    def make(self) -> None:
        """Make the folder, if it isn't there."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"could not make {self.path}: {error.strerror}") from None

    def start(self, exercise: Exercise) -> tuple[Path, bool]:
        """The file to be filled in, and whether it is new."""
        file = self.answer(exercise)
        if file.exists():
            return file, False
        self.make()
        return write_atomically(file, stub(exercise)), True

    def reset(self, exercise: Exercise) -> Path | None:
        """A new stub; returns where the old answer is now, None if there was none."""
        file, kept = self.answer(exercise), None
        if file.exists():
            number = 1
            while (kept := file.with_suffix(f".{number}.bak")).exists():
                number += 1
            file.rename(kept)
        self.start(exercise)
        self.note(exercise, passed=False, hints=0)
        return kept

    def source(self, exercise: Exercise) -> str:
        """What the learner wrote. UserError if nothing can be read."""
        file = self.answer(exercise)
        try:
            return file.read_text(encoding="utf-8-sig")  # editors may add a mark
        except FileNotFoundError:
            raise UserError(
                f"no {file}; begin with `folio learn start {exercise.name}`"
            ) from None
        except UnicodeDecodeError:
            raise UserError(f"{file}: not UTF-8; save it as UTF-8") from None
        except OSError as error:
            raise UserError(f"{file}: can't read: {error.strerror}") from None

    def progress(self) -> dict[str, dict[str, Any]]:
        """What is known of each exercise: {"passed": bool, "hints": int}."""
        file = self.path / PROGRESS
        if not file.exists():
            return {}
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            if all(map(_makes_sense, known.values())):
                return known
        except (ValueError, AttributeError, OSError):
            pass
        raise UserError(
            f"{file} is damaged; move it away, then `folio learn check` makes a new one"
        )

    def note(self, exercise: Exercise, **facts: Any) -> None:
        """Remember something of an exercise; the file is written whole or not."""
        known = self.progress()
        known[exercise.name] = known.get(exercise.name, {}) | facts
        self.make()
        text = json.dumps(known, indent=1, sort_keys=True) + "\n"
        write_atomically(self.path / PROGRESS, text)

    def has_passed(self, exercise: Exercise) -> bool:
        """As of its last check."""
        return bool(self.progress().get(exercise.name, {}).get("passed"))


def _makes_sense(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    passed, hints = entry.get("passed", False), entry.get("hints", 0)
    return isinstance(passed, bool) and isinstance(hints, int) and hints >= 0
