"""Answers of learners, right and wrong."""

from pathlib import Path

from folio.learn.exercises import find
from folio.learn.source import answer, live_source


def right(name: str) -> str:
    """A file that passes: the package's own source."""
    return answer(find(name), live_source(find(name)))


def changed(name: str, old: str, new: str) -> str:
    """The same with one piece of text replaced."""
    text = right(name)
    assert text.count(old) == 1
    return text.replace(old, new)


def write(folder: Path, name: str, text: str) -> Path:
    """The file of an exercise in a learner's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return file
