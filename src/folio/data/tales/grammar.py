"""Inflection, and templates that compile to trees of alternatives.

A template is English with three marks:

    [a|b [c|d]]   one of the alternatives, nested as deep as wanted
    *give         a verb, inflected when the sentence is built
    {A}           a slot, filled by whoever tells the story (see `telling.py`)

>>> verb("give", PAST), verb("carry", PAST), verb("stop", GERUND)
('gave', 'carried', 'stopping')
>>> article("old map"), article("red kite")
('an old map', 'a red kite')
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

# ------------------------------------------------------------------------ chance


def choose(rng: random.Random, items: Sequence[T]) -> T:
    """One of `items`, uniformly.

    Built on `random()` alone, the one method whose stream Python promises to keep
    between versions; `Random.choice` may change its use of the stream.
    """
    return items[int(rng.random() * len(items))]


def draw(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """`count` different items in random order (a partial Fisher-Yates shuffle)."""
    pool = list(items)
    for i in range(count):
        j = i + int(rng.random() * (len(pool) - i))
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:count]


def between(rng: random.Random, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(rng.random() * (high - low + 1))


# -------------------------------------------------------------------- inflection

PAST, GERUND, PARTICIPLE, INFINITIVE = range(4)

_IRREGULAR = """
be was been | begin began begun | blow blew blown | bring brought brought
build built built | buy bought bought | catch caught caught | choose chose chosen
come came come | cut cut cut | dig dug dug | do did done | draw drew drawn
drink drank drunk | eat ate eaten | feed fed fed | feel felt felt | fight fought fought
find found found | fly flew flown | forget forgot forgotten | get got gotten
give gave given | go went gone | grow grew grown | have had had | hear heard heard
hide hid hidden | hold held held | keep kept kept | know knew known | lead led led
leave left left | lend lent lent | let let let | light lit lit | lose lost lost
make made made | meet met met | pay paid paid | put put put | read read read
ride rode ridden | ring rang rung | rise rose risen | run ran run | say said said
see saw seen | sell sold sold | send sent sent | set set set | sew sewed sewn
shake shook shaken | show showed shown | sing sang sung | sit sat sat
sleep slept slept | speak spoke spoken | spend spent spent | stand stood stood
steal stole stolen | sweep swept swept | swim swam swum | take took taken
tell told told | think thought thought | wear wore worn | win won won
write wrote written
"""
IRREGULAR = {
    base: (past, participle)
    for base, past, participle in (
        entry.split()
        for entry in _IRREGULAR.replace("\n", "|").split("|")
        if entry.strip()
    )
}
# One-syllable verbs (and those stressed at the end) double their last letter.
_DOUBLED = """
begin chat chop cut dig drop forget get grab hug jog let nod pat pin plan put rub run
set shop sit skip slip spot step stir stop swap swim trot win wrap
"""
_DOUBLING = frozenset(_DOUBLED.split())
_VOWELS = frozenset("aeiou")


@cache
def verb(base: str, form: int) -> str:
    """Inflect a verb: `form` is PAST, GERUND, PARTICIPLE or INFINITIVE.

    >>> [verb("hurry", form) for form in (PAST, GERUND, PARTICIPLE, INFINITIVE)]
    ['hurried', 'hurrying', 'hurried', 'hurry']
    """
    if form == INFINITIVE:
        return base
    if form == GERUND:
        if base in _DOUBLING:
            return base + base[-1] + "ing"
        silent_e = base.endswith("e") and not base.endswith(("ee", "be"))
        return (base[:-1] if silent_e else base) + "ing"
    if base in IRREGULAR:
        return IRREGULAR[base][form == PARTICIPLE]
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in _VOWELS:
        return base[:-1] + "ied"
    if base in _DOUBLING:
        return base + base[-1] + "ed"
    return base + "ed"


def article(phrase: str) -> str:
    """Put "a" or "an" before a phrase.

    "Honest" is the lexicon's one word that its first letter misleads about.
    """
    spoken = phrase[1:] if phrase.startswith("hones") else phrase
    return ("an " if spoken[0] in _VOWELS else "a ") + phrase


def capitalize(sentence: str) -> str:
    """Raise the first letter, which may stand behind an opening quotation mark."""
    if sentence[0] == '"':
        return '"' + sentence[1].upper() + sentence[2:]
    return sentence[0].upper() + sentence[1:]


# --------------------------------------------------------------------- templates


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a template that the story fills."""

    name: str


class Verb(tuple):
    """A verb's four forms, in the order of PAST ... INFINITIVE."""

    __slots__ = ()


class Choice(tuple):
    """Alternatives, each a sequence of parts."""

    __slots__ = ()


Part = Any  # str | Slot | Verb | Choice: a node of a compiled template


@cache
def compiled(template: str) -> tuple[Part, ...]:
    """Parse a template into a tuple of parts.

    >>> compiled("[a|b] {A} *go")[0]
    (('a',), ('b',))
    """
    parts, end = _sequence(template, 0)
    assert end == len(template), f"unbalanced brackets in {template!r}"
    return parts


def _sequence(text: str, at: int) -> tuple[tuple[Part, ...], int]:
    """Parts from `at` up to the "|" or "]" that ends this alternative."""
    parts: list[Part] = []
    while at < len(text) and text[at] not in "|]":
        if text[at] == "[":
            options = []
            while text[at] != "]":
                option, at = _sequence(text, at + 1)
                options.append(option)
            parts.append(Choice(options))
            at += 1
        elif text[at] == "{":
            close = text.index("}", at)
            parts.append(Slot(text[at + 1 : close]))
            at = close + 1
        elif text[at] == "*":
            end = at + 1
            while end < len(text) and text[end].isalpha():
                end += 1
            parts.append(Verb(verb(text[at + 1 : end], form) for form in range(4)))
            at = end
        else:
            end = at
            while end < len(text) and text[end] not in "[|]{*":
                end += 1
            parts.append(text[at:end])
            at = end
    return tuple(parts), at


def expansions(template: str) -> list[str]:
    """Every text a template without verbs can give, its slots left as they are.

    >>> expansions("[a|b [c|d]] {what}")
    ['a {what}', 'b c {what}', 'b d {what}']
    """
    return _expansions(compiled(template))


def _expansions(parts: Sequence[Part]) -> list[str]:
    texts = [""]
    for part in parts:
        if isinstance(part, Choice):
            endings = [text for option in part for text in _expansions(option)]
        elif isinstance(part, Slot):
            endings = ["{" + part.name + "}"]
        else:
            endings = [part]
        texts = [text + ending for text in texts for ending in endings]
    return texts
