"""Questions with several answers, one of which is right: out of files, or of tales.

    ARC, OpenBookQA   question or question_stem, choices {text, label}, answerKey
    HellaSwag         ctx, endings, label, activity_label
    PIQA              goal, sol1, sol2, label
    MMLU              question, choices, answer, subject
    any other         context (and question), choices, answer

in .jsonl, .json or .parquet. An answer is a place, counted from 0, or a letter. Models
see the question and then one choice at a time, never the list: reading letters off a
list is a skill of its own, which small models don't have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from folio.config import UserError
from folio.data import tales
from folio.data.record_files import Record, kind_of, read_records
from folio.data.tales.grammar import draw
from folio.data.tales.mistakes import mistakes
from folio.data.tales.splits import Split, generator
from folio.evals.answers import ALL

WRONG = 3  # beside the right one, in questions about tales


@dataclass(frozen=True)
class Question:
    """What is asked, what might be said, and which of it (from 0) is right.

    `end` follows each choice in a text. `prompt` is what to ask whoever chats, if that
    is not the context.
    """

    context: str
    choices: tuple[str, ...]
    answer: int
    task: str = ALL
    where: str = ""
    end: str = ""
    prompt: str = ""

    def continuation(self, choice: int) -> str:
        """A choice as it follows the context: a space apart, unless one has some."""
        text = self.choices[choice]
        apart = not self.context or self.context[-1].isspace() or text[0].isspace()
        return f"{text}{self.end}" if apart else f" {text}{self.end}"


# -------------------------------------------------------------------------- tales


def tales_questions(
    seed: int = 0,
    split: Split = "validation",
    tasks: Sequence[str] = tales.CORE,
    count: int = 500,
) -> list[Question]:
    """Questions of the embedded world, asked as its documents ask them.

    The wrong choices are near misses (see `folio.data.tales.mistakes`), and prompts
    that have fewer than three are passed over. Where the right one stands is chance.
    """
    found: list[Question] = []
    index = 0
    while len(found) < count:
        item = tales.instruction(seed, split, index, tasks)
        rng = generator("choices", seed, split, index)
        index += 1
        wrong = mistakes(item)
        if len(wrong) < WRONG:
            continue
        choices = draw(rng, [item.answer, *draw(rng, wrong, WRONG)], WRONG + 1)
        before = f"{item.context}\n" if item.context else ""
        found.append(
            Question(
                f"{before}Question: {item.question} Answer:",
                tuple(choices),
                choices.index(item.answer),
                item.task,
                end=".",
                prompt=item.prompt,
            )
        )
    return found


# -------------------------------------------------------------------------- files


def read_questions(path: str | Path) -> list[Question]:
    """Every record of a file as a question; UserError names the place of a bad one."""
    found = [question_of(record) for record in read_records(path)]
    if not found:
        raise UserError(f"{path}: holds no records")
    return found


def question_of(record: Record) -> Question:
    """A record in one of the known forms (see the top of this file)."""
    fields = record.fields
    labels: list[str] = []
    if {"goal", "sol1", "sol2"} <= set(fields):
        context = _asking(_text(record, "goal"))
        choices = [_text(record, "sol1"), _text(record, "sol2")]
    elif {"ctx", "endings"} <= set(fields):
        context, choices = _unmarked(record), _texts(record, "endings")
    else:
        context = _context(record)
        choices, labels = _choices(record)
    if len(choices) < 2:
        raise UserError(f"{record.where}: {len(choices)} choices; give at least 2")
    answer = _answer(record, len(choices), labels)
    return Question(context, tuple(choices), answer, _task(record), record.where)


def _asking(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def _context(record: Record) -> str:
    """A question, after its passage if there is one; or a text to be gone on from."""
    asked = next((n for n in ("question", "question_stem") if n in record.fields), None)
    passage = _text(record, "context") if "context" in record.fields else ""
    if asked is None and not passage:
        raise _unknown(record)
    if asked is None:
        return passage
    return (f"{passage}\n" if passage else "") + _asking(_text(record, asked))


def _unmarked(record: Record) -> str:
    """HellaSwag's context under its headline, without the marks of WikiHow.

    >>> fields = {"activity_label": "Tea", "ctx": "[header] Boil  it. [step] Now"}
    >>> _unmarked(Record("", fields))
    'Tea: Boil it. Now'
    """
    text = _text(record, "ctx")
    if record.fields.get("activity_label"):
        text = f"{_text(record, 'activity_label')}: {text}"
    return " ".join(re.sub(r"\[.*?\]", " ", text).split())


def _choices(record: Record) -> tuple[list[str], list[str]]:
    """The choices, and the labels by which the answer names them, if there are any."""
    value = record.fields.get("choices")
    if value is None:
        raise _unknown(record)
    if not isinstance(value, Mapping):
        return _texts(record, "choices"), []
    if not {"text", "label"} <= set(value):
        raise UserError(
            f"{record.where}: field 'choices' has no lists 'text' and 'label'"
        )
    inside = Record(f"{record.where}: field 'choices'", value)
    texts, labels = _texts(inside, "text"), _texts(inside, "label")
    if len(texts) != len(labels):
        raise UserError(
            f"{record.where}: {len(texts)} choices, but {len(labels)} labels"
        )
    return texts, labels


def _answer(record: Record, count: int, labels: list[str]) -> int:
    """The place of the right choice: by its label, its letter, or counted from 0."""
    name = next((n for n in ("answerKey", "answer", "label") if n in record.fields), "")
    if not name:
        raise UserError(f"{record.where}: no field 'answer', 'answerKey' or 'label'")
    value = record.fields[name]
    if isinstance(value, str):
        value = value.strip()
        known = labels or list(ascii_uppercase[:count])
        if value in known:
            return known.index(value)
        if not labels and value.isascii() and value.isdigit():
            value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    wanted = " ".join(labels) or f"a letter, or from 0 to {count - 1}"
    raise UserError(
        f"{record.where}: field {name!r} holds {value!r}; expected {wanted}"
    )


def _task(record: Record) -> str:
    name = next((n for n in ("task", "subject") if record.fields.get(n)), None)
    return ALL if name is None else _text(record, name)


def _text(record: Record, name: str) -> str:
    return _filled(record, name, record.fields[name])


def _texts(record: Record, name: str) -> list[str]:
    value = record.fields[name]
    if not isinstance(value, list):
        raise UserError(
            f"{record.where}: field {name!r} holds {kind_of(value)}, not a list"
        )
    return [_filled(record, f"{name}[{i}]", text) for i, text in enumerate(value)]


def _filled(record: Record, name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise UserError(
            f"{record.where}: field {name!r} holds {kind_of(text)}, not text"
        )
    if not text.strip():
        raise UserError(f"{record.where}: field {name!r} is empty")
    return text


def _unknown(record: Record) -> UserError:
    present = ", ".join(map(repr, record.fields)) or "none"
    return UserError(
        f"{record.where}: no known form; expected question or context, with choices"
        f" and answer; the record's fields: {present}"
    )
