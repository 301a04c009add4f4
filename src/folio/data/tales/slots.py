"""The slots of the phrases, each a function of the teller.

Roles: A is the event's actor, B the other, C the third; O and X are its things.

    {A} {@A} {A!} {A's} {A+}    subject, object, bare name, possessive, "Ben the baker"
    {he} {him} {his} {He}       pronouns of A in a sentence that has named A
    {B:he} {B:him} {B:his}      the same for another role
    {said:A} {replied:A} ...    who speaks: "said Mara", "Mara said", "she said"

    {O} {O=} {O+}               "it" or "the kite"; never "it"; "a red kite" when new
    {aO} {aO!} {O!}             "a red kite"; "a kite"; "kite"

    {P} {P!} {atP} {spot}       "the mill"; "in the mill"; that or "there"; "on a shelf"
    {n} {num} {items} {text}    "three apples"; "three"; "apples"; as the plot says
    {goal} {goal_with} {deed}   "fly in the wind"; "fly a kite ..."; "flew it ..."
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from folio.data.tales.grammar import (
    INFINITIVE,
    Choice,
    Part,
    Slot,
    article,
    capitalize,
    choose,
    compiled,
)
from folio.data.tales.lexicon import NUMBERS, PLURALS, WEATHERS
from folio.data.tales.references import OBJECT, POSSESSIVE, SUBJECT
from folio.data.tales.world import counted

if TYPE_CHECKING:
    from folio.data.tales.telling import Teller

Filler = Callable[["Teller"], str]

ROLES = {"A": "actor", "B": "other", "C": "third"}
THINGS = {"O": "thing", "X": "second"}
SPEECH = {
    "said": ("said",),
    "asked": ("asked",),
    "replied": ("said", "said", "answered", "replied"),
    "cried": ("cried", "called", "shouted"),
    "sighed": ("sighed", "said"),
    "wondered": ("wondered", "thought"),
}

# ------------------------------------------------------------------------- people


def _person_slots(letter: str, role: str) -> dict[str, Filler]:
    slots: dict[str, Filler] = {
        letter: lambda t: t.subject(getattr(t.event, role)),
        "@" + letter: lambda t: t.object(getattr(t.event, role)),
        letter + "!": lambda t: t.name(getattr(t.event, role)),
        letter + "'s": lambda t: t.possessive(getattr(t.event, role)),
        letter + "+": lambda t: t.described(getattr(t.event, role)),
        letter + ":he": lambda t: t.pronoun(getattr(t.event, role), SUBJECT),
        letter + ":him": lambda t: t.pronoun(getattr(t.event, role), OBJECT),
        letter + ":his": lambda t: t.pronoun(getattr(t.event, role), POSSESSIVE),
    }
    for speech, verbs in SPEECH.items():
        slots[f"{speech}:{letter}"] = lambda t, verbs=verbs: _speaker(t, role, verbs)
    return slots


def _speaker(teller: Teller, role: str, verbs: tuple[str, ...]) -> str:
    """ "said Mara", "Mara said", "she said"; never "said she"."""
    person = getattr(teller.event, role)
    verb = verbs[0] if len(verbs) == 1 else choose(teller.rng, verbs)
    name = teller.subject(person)
    if name == person.name and teller.rng.random() < 0.6:
        return f"{verb} {name}"
    return f"{name} {verb}"


def _kind_of_person(teller: Teller) -> str:
    person = teller.event.actor
    if person.job:
        return person.job
    return "girl" if person.female else "boy"


# ------------------------------------------------------------------------- things


def _thing_slots(letter: str, role: str) -> dict[str, Filler]:
    return {
        letter: lambda t: t.definite(getattr(t.event, role)),
        letter + "=": lambda t: t.the(getattr(t.event, role)),
        letter + "+": lambda t: t.a_or_the(getattr(t.event, role)),
        letter + "!": lambda t: t.noun(getattr(t.event, role)),
        "a" + letter: lambda t: t.a(getattr(t.event, role)),
        f"a{letter}!": lambda t: t.a_kind(getattr(t.event, role)),
    }


def _use(teller: Teller, form: int, thing: str, tool: str = "") -> str:
    """The use's phrase with its thing in place of "_", or with its tool."""
    saved, teller.form = teller.form, form
    phrase = teller.fill(_TREES.get(teller.event.use.phrase))
    teller.form = saved
    if "_" in phrase:
        return phrase.replace("_", thing) if thing else _without(phrase)
    return phrase + tool


def _without(phrase: str) -> str:
    """
    >>> _without("fly _ in the wind"), _without("ride on _")
    ('fly in the wind', 'ride on')
    """
    return phrase.replace(" _", "")


def _deed(teller: Teller) -> str:
    """ "flew the kite in the wind", "mended the fence with the hammer"."""
    thing = teller.definite(teller.event.thing)
    return _use(teller, teller.form, thing, tool=f" with {thing}")


def _goal_with(teller: Teller) -> str:
    """ "fly a kite in the wind", "mend the fence"."""
    return _use(teller, INFINITIVE, teller.a_kind(teller.event.thing))


def _lack(teller: Teller) -> str:
    event = teller.event
    return "had none" if "_" in event.use.phrase else f"had no {event.thing.noun}"


# ------------------------------------------------------------------ everything else


def _chore(teller: Teller) -> str:
    saved, teller.form = teller.form, INFINITIVE
    text = teller.fill(_TREES.get(teller.event.note))
    teller.form = saved
    return text


def _reason(teller: Teller) -> str:
    return {
        "ill": "was ill",
        "busy": "had no time",
        "old": "was too tired for the long road",
    }[teller.event.note]


SLOTS: dict[str, Filler] = {
    "He": lambda t: capitalize(t.pronoun(t.event.actor, SUBJECT)),
    "a_trait": lambda t: article(t.event.actor.trait),
    "person": _kind_of_person,
    "P": lambda t: t.to_place(t.event.place),
    "P!": lambda t: t.in_place(t.event.place),
    "atP": lambda t: t.at_place(t.event.place),
    "spot": lambda t: t.spot(t.event.thing or t.event.other, t.event.place),
    "day": lambda t: t.world.day,
    "month": lambda t: t.world.month,
    "weather": lambda t: choose(t.rng, WEATHERS[t.world.weather]),
    "note": lambda t: t.event.note,
    "flew": lambda t: "flew off" if t.event.note == "crow" else "ran off",
    "chore": _chore,
    "reason": _reason,
    "n": lambda t: counted(t.event.count, t.event.note),
    "num": lambda t: NUMBERS[t.event.count],
    "items": lambda t: PLURALS[t.event.note],
    "text": lambda t: t.event.text,
    "goal": lambda t: _use(t, INFINITIVE, ""),
    "goal_with": _goal_with,
    "lack": _lack,
    "deed": _deed,
}
for _letter, _role in ROLES.items():
    SLOTS |= _person_slots(_letter, _role)
for _letter, _role in THINGS.items():
    SLOTS |= _thing_slots(_letter, _role)
for _word in ("he", "him", "his"):
    SLOTS[_word] = SLOTS["A:" + _word]


def resolve(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Replace the slots of a compiled template by their functions, once and for all."""
    return tuple(
        SLOTS[part.name]
        if isinstance(part, Slot)
        else Choice(resolve(option) for option in part)
        if isinstance(part, Choice)
        else part
        for part in parts
    )


class _Trees(dict):
    """Phrases of uses and chores, compiled when first told."""

    def get(self, template: str) -> tuple[Part, ...]:
        tree = super().get(template)
        if tree is None:
            tree = self[template] = resolve(compiled(template))
        return tree


_TREES = _Trees()
