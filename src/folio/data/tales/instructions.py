"""Instructions with gold answers, for fine-tuning, preferences and verifiable rewards.

A prompt is a task in words, with a brief story before it when the task asks about
one. Its answer is known; four styles give it, one of which people prefer; an
annotator with other conventions demonstrates it wrongly, and always in the same way.
The truth is therefore exact: an answer earns 1, the preferred style 0.5.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from folio.config import UserError, nearest
from folio.data.tales.documents import split_skill
from folio.data.tales.grammar import choose, draw
from folio.data.tales.skills import SKILLS, Problem
from folio.data.tales.splits import Split, check_split, generator
from folio.data.tales.stories import Scale, story
from folio.data.tales.wording import WORDINGS, compose

# Learned within minutes by a 0.5 M-parameter model, and not yet (reported beside).
CORE = ("largest", "date", "sort", "length", "weather", "want")
LADDER = ("first", "last", "count", "who_has", "where")
TASKS = tuple(WORDINGS)

STYLES = (
    "{}",
    "The answer is {}.",
    "Sure! The answer is {}.",
    "Well, I think that it may be {} but please check it.",
)
PREFERRED_STYLE = 2
STYLE_REWARD = 0.5
# How often the careless annotator errs, on half of the wordings and on the others:
# the skill stays in the model while half of its prompts have a wrong majority.
NOISY_ERROR_RATES = (0.7, 0.2)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One prompt with a known answer.

    `context` is the story ("" for a skill), `question` the task in words; `wrong` is
    the careless annotator's answer; `wording` is the question before its operands.
    """

    task: str
    context: str
    question: str
    answer: str
    wrong: str
    wording: str

    @property
    def prompt(self) -> str:
        return f"{self.context} {self.question}" if self.context else self.question

    @property
    def error_rate(self) -> float:
        """How often the careless annotator errs on this wording."""
        return NOISY_ERROR_RATES[zlib.crc32(self.wording.encode()) % 2]


# ------------------------------------------------------------------------- prompts


def instruction(
    seed: int,
    split: Split,
    index: int,
    tasks: Sequence[str] = CORE,
    *,
    world: Scale = "small",
    held_out: bool = False,
) -> Instruction:
    """Instruction `index` of a split: a function of its arguments alone.

    Tasks are drawn evenly. `held_out` words it as training never does.
    """
    check_split(split)
    _check_tasks(tasks)
    rng = generator("instruction", seed, split, index)
    task = choose(rng, tasks)
    if task in SKILLS:
        return _worded(rng, split_skill(task, rng, split), "", held_out)
    while True:
        tale = story(rng, split, world)
        fitting = [problem for problem in tale.questions if problem.task == task]
        if fitting:
            return _worded(rng, choose(rng, fitting), tale.text, held_out)


def packed(
    seed: int,
    split: Split,
    index: int,
    tasks: Sequence[str] = CORE,
    *,
    turns: int = 6,
    world: Scale = "small",
    held_out: bool = False,
) -> list[Instruction]:
    """Several instructions for one conversation; at most `turns`.

    Either skills only, or all questions of the given tasks that one story answers:
    its text is the context of the first turn alone. Story and skill conversations
    come as often as the tasks that they serve.
    """
    check_split(split)
    _check_tasks(tasks)
    if turns < 1:
        raise UserError(f"turns = {turns}: ask for at least one")
    rng = generator("packed", seed, split, index)
    skills = [task for task in tasks if task in SKILLS]
    if choose(rng, tasks) in SKILLS:
        problems = [split_skill(choose(rng, skills), rng, split) for _ in range(turns)]
        return [_worded(rng, problem, "", held_out) for problem in problems]
    while True:
        tale = story(rng, split, world)
        fitting = [problem for problem in tale.questions if problem.task in tasks]
        if fitting:
            break
    chosen = draw(rng, fitting, min(turns, len(fitting)))
    return [
        _worded(rng, problem, tale.text if position == 0 else "", held_out)
        for position, problem in enumerate(chosen)
    ]


def _worded(
    rng: random.Random, problem: Problem, context: str, held_out: bool
) -> Instruction:
    question, wording = compose(rng, problem.task, problem.values, held_out=held_out)
    return Instruction(
        problem.task, context, question, problem.answer, problem.wrong, wording
    )


def _check_tasks(tasks: Sequence[str]) -> None:
    if not tasks:
        raise UserError(f"tasks = []: name at least one of {', '.join(TASKS)}")
    for task in tasks:
        if task not in WORDINGS:
            raise UserError(f"tasks = {task!r}{nearest(task, TASKS)}")


# --------------------------------------------------------------------- responses


def demonstration(
    item: Instruction,
    rng: random.Random,
    *,
    style: int | None = None,
    noisy: bool = False,
) -> str:
    """What an annotator writes: any style, and the right answer unless `noisy`."""
    answer = item.answer
    if noisy and rng.random() < item.error_rate:
        answer = item.wrong
    form = STYLES[style] if style is not None else choose(rng, STYLES)
    return form.format(answer)


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt, the first of higher score.

    `category` says in what they differ: "style", "content" or "both".
    """

    instruction: Instruction
    chosen: str
    rejected: str
    category: str


def preference_pair(
    item: Instruction,
    rng: random.Random,
    *,
    category: str | None = None,
    flip: float = 0.0,
) -> Preference:
    """A pair whose truth is known; `flip` is how often the label is wrong.

    "style": both right, one in the preferred style. "content": one style, one of
    them wrong. "both": right in any style against wrong in the preferred one, which
    a judge of style alone gets wrong.
    """
    categories = ("style", "content", "both")
    category = category or choose(rng, categories)
    others = [style for style in range(len(STYLES)) if style != PREFERRED_STYLE]
    if category == "style":
        better = STYLES[PREFERRED_STYLE].format(item.answer)
        worse = STYLES[choose(rng, others)].format(item.answer)
    elif category == "content":
        form = choose(rng, STYLES)
        better, worse = form.format(item.answer), form.format(item.wrong)
    elif category == "both":
        better = STYLES[choose(rng, others)].format(item.answer)
        worse = STYLES[PREFERRED_STYLE].format(item.wrong)
    else:
        raise UserError(f"category = {category!r}{nearest(category, categories)}")
    if rng.random() < flip:
        better, worse = worse, better
    return Preference(item, better, worse, category)


# ------------------------------------------------------------------------- scores


def parse_response(response: str) -> tuple[str, int]:
    """The answer inside a response, and the style that it came in.

    >>> parse_response("Sure! The answer is 3 7 9.")
    ('3 7 9', 2)
    >>> parse_response("3 7 9")
    ('3 7 9', 0)
    """
    for style in range(len(STYLES) - 1, 0, -1):
        head, tail = STYLES[style].split("{}")
        long_enough = len(response) >= len(head) + len(tail)
        if long_enough and response.startswith(head) and response.endswith(tail):
            return response[len(head) : len(response) - len(tail)], style
    return response, 0


def score(item: Instruction, response: str, *, finished: bool = True) -> float:
    """The gold reward: 1 for the right answer, 0.5 for the preferred style.

    An unfinished response (no end of turn) earns nothing. The optimum is 1.5.
    """
    if not finished:
        return 0.0
    answer, style = parse_response(response)
    return float(answer == item.answer) + STYLE_REWARD * (style == PREFERRED_STYLE)
