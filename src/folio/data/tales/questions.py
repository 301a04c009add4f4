"""Questions about a story, with answers read from the state it ended in."""

from __future__ import annotations

from folio.data.tales.grammar import article
from folio.data.tales.lexicon import (
    DAYS,
    NUMBERS,
    PLACES,
    PLURALS,
    WEATHERS,
    Place,
    words,
)
from folio.data.tales.skills import Problem
from folio.data.tales.world import Person, World

STORY_TASKS = (
    "weather", "want", "who_has", "where", "count", "gave", "first_owner", "day",
)  # fmt: skip

_OPENINGS = {"open_day", "open_briefly", "open_month", "open_weather"}
_ARRIVING = frozenset(
    words(
        """go go_back carry come_by come_after chase chase_wind rest sit_alone led
        hide_self win_race lose_race"""
    )
)
_OWNING = frozenset(
    words(
        """own treasure has_one has_one_briefly send got_present sells bring
        offer_prize"""
    )
)
# A careless annotator always mistakes the same weather for the same other one.
_MISTAKEN_WEATHER = dict(
    zip(WEATHERS, [*list(WEATHERS)[1:], next(iter(WEATHERS))], strict=True)
)


def questions(world: World) -> list[Problem]:
    """Every question whose answer the told events settle, in a fixed order."""
    return [
        *_weather(world),
        *_wishes(world),
        *_holders(world),
        *_places(world),
        *_counts(world),
        *_givers(world),
    ]


def _weather(world: World) -> list[Problem]:
    told = {event.kind for event in world.events[:1]}
    found = []
    if told & _OPENINGS:
        wrong = _MISTAKEN_WEATHER[world.weather]
        found.append(Problem("weather", {}, world.weather, wrong))
    if told & {"open_day", "open_briefly"}:
        tomorrow = DAYS[(DAYS.index(world.day) + 1) % 7]
        found.append(Problem("day", {}, world.day, tomorrow))
    return found


def _wishes(world: World) -> list[Problem]:
    """What somebody wanted: nobody wants two things in one story."""
    found = []
    for person, thing in world.wants.items():
        other = _other_noun(world, thing.noun)
        if other:
            values = {"person": person.name}
            answer, wrong = article(thing.noun), article(other)
            found.append(Problem("want", values, answer, wrong))
    return found


def _other_noun(world: World, noun: str) -> str | None:
    """Another thing of the story: what a hasty reader takes it for."""
    for thing in [*world.holders, *world.wants.values()]:
        if thing.noun != noun:
            return thing.noun
    return None


def _other_name(world: World, right: Person, others: list[Person]) -> str:
    for person in [*reversed(others), *world.people]:
        if person is not right:
            return person.name
    raise AssertionError("a story has at least two people")


def _holders(world: World) -> list[Problem]:
    """Who has a thing now, and who had it first."""
    found = []
    owned_first = {e.thing: e.actor for e in world.events if e.kind in _OWNING}
    for thing, holders in world.holders.items():
        values = {"thing": thing.noun}
        now = world.holder.get(thing)
        if now is not None:
            wrong = _other_name(world, now, holders)
            found.append(Problem("who_has", values, now.name, wrong))
        first = holders[0]
        if len(set(holders)) > 1 and owned_first.get(thing) is first:
            wrong = _other_name(world, first, holders)
            found.append(Problem("first_owner", values, first.name, wrong))
    return found


def _places(world: World) -> list[Problem]:
    """Where a thing lies, and where somebody went last."""
    found = []
    for thing, place in world.lying.items():
        if thing in world.holders:
            values = {"what": f"the {thing.noun}"}
            wrong = _other_place(world, place)
            found.append(Problem("where", values, place.the, wrong))
    last = {e.actor: e for e in world.events if e.actor and e.place}
    for person, event in last.items():
        place = world.location.get(person)
        if event.kind in _ARRIVING and event.place is place:
            values = {"what": person.name}
            wrong = _other_place(world, place)
            found.append(Problem("where", values, place.the, wrong))
    return found


def _other_place(world: World, right: Place) -> str:
    """Where a hasty reader looks: a place of the story, or another of the world."""
    for event in reversed(world.events):
        if event.place is not None and event.place is not right:
            return event.place.the
    names = world.scope.places
    return PLACES[names[(names.index(right.name) + 1) % len(names)]].the


def _counts(world: World) -> list[Problem]:
    """How many somebody has left, if any."""
    found = []
    for person, count in world.counts.items():
        if count:
            first = world.first_counts[person]
            wrong = first if first != count else count + 1
            values = {"person": person.name, "items": PLURALS[world.counted]}
            found.append(Problem("count", values, NUMBERS[count], NUMBERS[wrong]))
    return found


def _givers(world: World) -> list[Problem]:
    """Who gave what to whom, if it happened once."""
    found = []
    for (thing, taker), giver in world.givers.items():
        if world.holders[thing].count(taker) == 1:
            values = {"thing": thing.noun, "person": taker.name}
            wrong = _other_name(world, giver, [taker])
            found.append(Problem("gave", values, giver.name, wrong))
    return found
