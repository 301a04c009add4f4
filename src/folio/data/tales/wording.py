"""How a task may be put into words: composed paraphrases.

Each task has a template whose alternatives multiply (verb × object × order ×
politeness), at least fifty compositions each, so that a model can't get by with
learning a few fixed sentences by heart.
"""

from __future__ import annotations

import random
from functools import cache

from folio.data.tales.grammar import capitalize, choose, expansions
from folio.data.tales.splits import is_held_out


def _order(command: str) -> str:
    """The polite and less polite ways to tell somebody to do something."""
    return (
        f"[{command}.|please {command}.|now {command}.|{command}, please."
        f"|[can|could|would] you {command}?|I want you to {command}.]"
    )


def _ask(question: str) -> str:
    """The ways to put a question."""
    return (
        f"[|||tell me, |tell me now, |please tell me, |please tell me now, "
        f"|think well: |look again: |can you say: ]{question}?"
    )


def _either(question: str, command: str) -> str:
    """A question, more often, or the command to answer it."""
    return f"[{_ask(question)}|{_ask(question)}|{_order(command)}]"


_SAY = "[say|tell me|write down]"
_LIST = "[|the list |the row |this list ]{list}"
_ONE = "[word|thing|item|one]"
_MOST = "[largest|biggest|highest|greatest]"
_RISING = "[in rising order|from small to large|from low to high]"
_DIGITS = "[with digits|in digits|in numbers|in short form]"

WORDINGS: dict[str, str] = {
    # skills
    "sort": _either(
        f"what [is|do you get from] {_LIST} [{_RISING}|sorted]",
        f"[sort|arrange|order|put] [|the numbers |the list |the digits ]{{list}} "
        f"[{_RISING}|starting with the smallest]",
    ),
    "largest": _either(
        f"[which|which number|which one] is the {_MOST} [of|in] {_LIST}",
        f"[give|name|find|pick] the {_MOST} [one|number|digit] [of|in] {_LIST}",
    ),
    "date": _either(
        f"how [do|can] [I|you|we] write [|the date ]{{date}} {_DIGITS}",
        f"[write|give|put|say] [|the date ]{{date}} {_DIGITS}",
    ),
    "length": _either(
        f"[how many [words|things|items] are [|there ]in {_LIST}"
        "|how long is the [list|row] {list}]",
        f"count the [words|things|items] [of|in] {_LIST}",
    ),
    "first": _either(
        f"[which {_ONE} comes first in|what is the first {_ONE} of] {_LIST}",
        f"[give|name|find|pick|say] the first {_ONE} [of|in] {_LIST}",
    ),
    "last": _either(
        f"[which {_ONE} comes last in|what is the last {_ONE} of] {_LIST}",
        f"[give|name|find|pick|say] the last {_ONE} [of|in] {_LIST}",
    ),
    "reverse": _either(
        "what is {list} [backward|in reverse]",
        "[reverse {list}|[say|read|write] {list} [backward|in reverse]"
        "|turn {list} around]",
    ),
    "echo": _order("[say|repeat|write|read] {list}[| once more| again]"),
    # questions about a story
    "weather": _either(
        "[what was the weather like[| that day]|how was the weather[| that day]"
        "|what kind of weather was it|what was the weather[| that day]]",
        f"{_SAY} what the weather was[| like]",
    ),
    "day": _either(
        "[what day was it|which day was it|on which day did it happen"
        "|on which day did the story [begin|start]]",
        f"{_SAY} which day it was",
    ),
    "want": _either(
        "[what did {person} [want|need|wish for]"
        "|[what|which] thing did {person} [want|need|wish for]]",
        f"{_SAY} what {{person}} [wanted|needed|wished for]",
    ),
    "who_has": _either(
        "[who [has|holds|keeps|owns] the {thing}|which person has the {thing}]"
        "[| now| in the end]",
        f"{_SAY} who has the {{thing}}[| in the end]",
    ),
    "where": _either(
        "[where is {what}|in which place is {what}|where can [I|we] find {what}]"
        "[| now| in the end]",
        f"{_SAY} where {{what}} is[| in the end]",
    ),
    "count": _either(
        "how many {items} [does {person} have[| now| left| in the end]"
        "|are left for {person}]",
        f"{_SAY} how many {{items}} {{person}} has[| left| in the end]",
    ),
    "gave": _either(
        "[who gave {person} the {thing}|who gave the {thing} to {person}"
        "|from whom did {person} get the {thing}|who let {person} have the {thing}]",
        f"{_SAY} who gave the {{thing}} to {{person}}",
    ),
    "first_owner": _either(
        "[who had the {thing} [first|at first|before the others]"
        "|who was the first to have the {thing}]",
        f"{_SAY} who had the {{thing}} [first|at first]",
    ),
}


@cache
def wordings(task: str, held_out: bool = False) -> tuple[str, ...]:
    """All wordings of a task that training may show, or those that it never shows.

    Some come more than once: templates weigh their alternatives that way.
    """
    texts = map(capitalize, expansions(WORDINGS[task]))
    return tuple(text for text in texts if is_held_out(task, text) == held_out)


def compose(
    rng: random.Random, task: str, values: dict[str, str], *, held_out: bool = False
) -> tuple[str, str]:
    """The task in words, and the wording before its values were filled in."""
    wording = choose(rng, wordings(task, held_out))
    return wording.format(**values), wording
