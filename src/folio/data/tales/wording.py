"""How a task may be put into words: composed paraphrases.

Each task has a template whose alternatives multiply (verb × object × order ×
politeness), at least fifty compositions each, so that a model can't get by with
learning a few fixed sentences by heart.
"""

from __future__ import annotations

import random

from folio.data.tales.grammar import capitalize, expand
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
        f"[|||tell me, |please tell me, |now tell me: |can you say "
        f"[now|for sure]: |a question: |think about it: ]{question}?"
    )


_THE_LIST = "[|the list |the row |this list ]{list}"
_THE_NUMBERS = "[|the numbers |the list |the digits ]{list}"
_ONE = "[word|thing|item|one]"

WORDINGS: dict[str, str] = {
    # skills
    "sort": "["
    + _order(
        f"[sort|arrange|order|put] {_THE_NUMBERS} [in rising order|from small to large"
        "|from low to high|starting with the smallest]"
    )
    + "|"
    + _ask(f"what is {_THE_NUMBERS} [in rising order|from small to large|sorted]")
    + "]",
    "largest": "["
    + _order(
        "[give|name|find|pick] the [largest|biggest|highest|greatest] "
        "[one|number|digit] [of|in] [|the list |the numbers ]{list}"
    )
    + "|"
    + _ask(
        "[which|which number|which one] is the [largest|biggest|highest|greatest] "
        "[of|in] [|the list |the numbers ]{list}"
    )
    + "]",
    "date": "["
    + _order(
        "[write|give|put|say] [|the date |the day ]{date} [with digits|in digits"
        "|in numbers|in short form]"
    )
    + "|"
    + _ask(
        "how [do|can] [I|you|we] write [|the date |the day ]{date} [with digits"
        "|in numbers|in short form]"
    )
    + "]",
    "length": "["
    + _order(
        "count the [words|things|items|names] [of|in] [|the list |the row ]{list}"
    )
    + "|"
    + _ask(
        "[how many [words|things|items|names] are [|there ]in "
        f"{_THE_LIST}|how long is the [list|row] {{list}}]"
    )
    + "]",
    "first": "["
    + _order(
        f"[give|name|find|pick|say] the first {_ONE} [of|in] [|the list |the row ]{{list}}"
    )
    + "|"
    + _ask(
        f"[which {_ONE} comes first in {_THE_LIST}|what is the first {_ONE} of "
        f"{_THE_LIST}]"
    )
    + "]",
    "last": "["
    + _order(
        f"[give|name|find|pick|say] the last {_ONE} [of|in] [|the list |the row ]{{list}}"
    )
    + "|"
    + _ask(
        f"[which {_ONE} comes last in {_THE_LIST}|what is the last {_ONE} of "
        f"{_THE_LIST}]"
    )
    + "]",
    "reverse": "["
    + _order(
        "[reverse {list}|[say|read|write] {list} [backward|in reverse]"
        "|turn {list} around]"
    )
    + "|"
    + _ask("what is {list} [backward|in reverse]")
    + "]",
    "echo": _order("[say|repeat|write|read] {list} [|once more|again]"),
    # questions about a story
    "weather": _ask(
        "[what was the weather like[| that day]|how was the weather[| that day]"
        "|what kind of weather was it|what was the weather[| that day]]"
    ),
    "day": _ask(
        "[what day was it|which day was it|on which day did it happen"
        "|on which day did the story [begin|start]]"
    ),
    "want": _ask(
        "[what did {person} [want|need|wish for]"
        "|[what|which] thing did {person} [want|need|wish for]]"
    ),
    "who_has": _ask(
        "[who [has|holds|keeps|owns] the {thing}[| now| in the end]"
        "|which person has the {thing}[| now| in the end]"
        "|who has the {thing}[| now| in the end]]"
    ),
    "where": _ask(
        "[where is {what}[| now| in the end]|in which place is {what}[| now| in the end]"
        "|where can [I|we] find {what}[| now| in the end]]"
    ),
    "count": _ask(
        "how many {items} [does {person} have[| now| left| in the end]"
        "|are left for {person}]"
    ),
    "gave": _ask(
        "[who gave {person} the {thing}|who gave the {thing} to {person}"
        "|from whom did {person} get the {thing}|who let {person} have the {thing}]"
    ),
    "first_owner": _ask(
        "[who had the {thing} first|who had the {thing} [at first|before the others]"
        "|who was the first to have the {thing}]"
    ),
}


def compose(
    task: str, values: dict[str, str], rng: random.Random, *, held_out: bool = False
) -> tuple[str, tuple[int, ...]]:
    """A wording of the task and the choices that made it.

    `held_out` asks for one of the compositions that training never shows.
    """
    while True:
        taken: list[int] = []
        text = expand(WORDINGS[task], rng, values, taken)
        composition = tuple(taken)
        if is_held_out(task, composition) == held_out:
            return capitalize(text), composition
