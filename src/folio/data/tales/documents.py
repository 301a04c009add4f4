"""The pretraining corpus: stories, half of them with questions, and skill pages."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from folio.config import UserError
from folio.data.tales.grammar import between, choose, draw
from folio.data.tales.skills import SKILLS, Problem, skill
from folio.data.tales.splits import Split, check_split, generator, split_of
from folio.data.tales.stories import Story, story
from folio.data.tales.wording import compose


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the corpus. `small` stories repeat few names often (they teach a tiny
    model to copy and are what instructions look like); `skills` are pages of small
    tasks; `questions` is the share of stories that end with questions."""

    skills: float = 0.15
    small: float = 0.2
    questions: float = 0.5

    def __post_init__(self) -> None:
        for name in ("skills", "small", "questions"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UserError(f"mix.{name} = {share}: give a share from 0 to 1")
        if self.skills + self.small > 1:
            raise UserError(
                f"mix.skills = {self.skills} and mix.small = {self.small}: "
                "together they may not exceed 1"
            )


DEFAULT_MIX = Mix()


def documents(
    seed: int,
    *,
    split: Split = "train",
    count: int | None = None,
    mix: Mix = DEFAULT_MIX,
) -> Iterator[str]:
    """Documents 0, 1, 2, ... of a split: `count` of them, or without end."""
    check_split(split)
    index = 0
    while count is None or index < count:
        yield document(seed, split, index, mix)
        index += 1


def document(seed: int, split: Split, index: int, mix: Mix = DEFAULT_MIX) -> str:
    """Document `index`: a function of its arguments alone, in whatever process."""
    rng = generator("document", seed, split, index)
    luck = rng.random()
    if luck < mix.skills:
        return _skill_page(rng, split)
    if luck < mix.skills + mix.small:
        return "\n\n".join(
            _with_questions(rng, story(rng, split, "small"), mix) for _ in range(2)
        )
    return _with_questions(rng, story(rng, split, "full"), mix)


def split_skill(task: str, rng: random.Random, split: Split) -> Problem:
    """A problem whose operands belong to the split."""
    while True:
        problem = skill(task, rng)
        if split_of(task, sorted(problem.values.items())) == split:
            return problem


# ------------------------------------------------------------ questions and answers


def _with_questions(rng: random.Random, tale: Story, mix: Mix) -> str:
    if rng.random() >= mix.questions or not tale.questions:
        return tale.text
    asked = draw(rng, tale.questions, min(len(tale.questions), between(rng, 3, 6)))
    return "\n".join([tale.text, *_lines(rng, asked)])


def _skill_page(rng: random.Random, split: Split) -> str:
    """Four to eight small tasks with their answers."""
    problems = [
        split_skill(choose(rng, SKILLS), rng, split) for _ in range(between(rng, 4, 8))
    ]
    return "\n".join(_lines(rng, problems))


_FORMS = (
    "Question: {question} Answer: {answer}.",
    "Question: {question} Answer: {answer}.",
    "{question} {answer}.",
    "{question} The answer is {answer}.",
)


def _lines(rng: random.Random, problems: list[Problem]) -> list[str]:
    """One line a problem, all in the form that this page has chosen."""
    form = choose(rng, _FORMS)
    lines = []
    for problem in problems:
        question, _ = compose(rng, problem.task, problem.values)
        answer = problem.answer
        if form is _FORMS[2]:
            answer = answer[0].upper() + answer[1:]
        lines.append(form.format(question=question, answer=answer))
    return lines


# ---------------------------------------------------------------------- copy probe


@dataclass(frozen=True, slots=True)
class CopyProbe:
    """A place where the story repeats a word: does the model copy it?

    `prefix` ends right before the space that precedes `answer`.
    """

    prefix: str
    answer: str
    kind: Literal["name", "object"]


_WORD = re.compile(r" ([A-Za-z]+)")


def copy_probes(
    seed: int, count: int, *, split: Split = "validation"
) -> list[CopyProbe]:
    """`count` probes, as many names as objects, at most two of a kind from a story."""
    check_split(split)
    if count < 1:
        raise UserError(f"count = {count}: ask for at least one probe")
    wanted = {"name": (count + 1) // 2, "object": count // 2}
    probes: list[CopyProbe] = []
    index = 0
    while any(wanted.values()):
        rng = generator("probe", seed, split, index)
        tale = story(rng, split, "full")
        index += 1
        places = repeated_words(tale)
        for kind in wanted:
            found = [probe for probe in places if probe.kind == kind]
            found = draw(rng, found, min(2, len(found), wanted[kind]))
            wanted[kind] -= len(found)
            probes += found
    return probes


def repeated_words(tale: Story) -> list[CopyProbe]:
    """Every later occurrence of a name or of a thing's noun."""
    names, nouns = tale.names, tale.nouns
    seen: set[str] = set()
    probes = []
    for match in _WORD.finditer(tale.text):
        word = match.group(1)
        kind = "name" if word in names else "object" if word in nouns else None
        if kind and word in seen:
            probes.append(CopyProbe(tale.text[: match.start()], word, kind))
        seen.add(word)
    return probes
