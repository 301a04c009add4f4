"""The simulated world: people, things and places, and actions that change them.

A plot (`plots/`) calls the actions; each one changes the state *and* writes an
event. The teller sees the events alone, so what is told is what happened, and the
answers to questions are read from the state that the events left behind.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from folio.data.tales.grammar import T, between, choose, draw
from folio.data.tales.lexicon import (
    CHILD_RELATIONS,
    DAYS,
    JOBS,
    KINDS,
    MONTHS,
    NUMBERS,
    PLACES,
    PLURALS,
    RELATIONS,
    TRAITS,
    WEATHERS,
    Kind,
    Place,
    Scope,
    Use,
)


@dataclass(eq=False, slots=True)
class Person:
    """Somebody in a story. `relation` is to the hero ("cousin"), `job` a trade."""

    name: str
    female: bool
    child: bool = False
    job: str | None = None
    relation: str | None = None
    trait: str = "kind"

    @property
    def pronouns(self) -> tuple[str, str, str]:
        """Subject, object, possessive."""
        return ("she", "her", "her") if self.female else ("he", "him", "his")


@dataclass(eq=False, slots=True)
class Thing:
    """One particular thing; a story never has two of a kind."""

    kind: Kind
    look: str

    @property
    def noun(self) -> str:
        return self.kind.noun


@dataclass(eq=False, slots=True)
class Event:
    """Something that happened, in the roles that templates name A, B, C, O, X, P.

    `note` and `text` are words of the plot's (an animal, a chore, what is counted);
    `gap` says how much time passed before it ("", "soon", "evening", "day", "week").
    """

    kind: str
    actor: Person | None = None
    other: Person | None = None
    third: Person | None = None
    thing: Thing | None = None
    second: Thing | None = None
    place: Place | None = None
    use: Use | None = None
    count: int = 0
    note: str = ""
    text: str = ""
    gap: str = ""


@dataclass(slots=True)
class World:
    """The state, and the events that led to it."""

    rng: random.Random
    scope: Scope
    people: list[Person] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    # state
    holder: dict[Thing, Person] = field(default_factory=dict)
    lying: dict[Thing, Place] = field(default_factory=dict)
    location: dict[Person, Place] = field(default_factory=dict)
    wants: dict[Person, Thing] = field(default_factory=dict)
    counts: dict[Person, int] = field(default_factory=dict)
    purpose: dict[Thing, Use] = field(default_factory=dict)
    # history that questions ask about
    holders: dict[Thing, list[Person]] = field(default_factory=dict)
    visited: dict[Person, list[Place]] = field(default_factory=dict)
    givers: dict[tuple[Thing, Person], Person] = field(default_factory=dict)
    first_counts: dict[Person, int] = field(default_factory=dict)
    # premise: what the story starts from
    counted: str = ""
    day: str = ""
    month: str = ""
    weather: str = ""
    plot: str = ""
    _free_nouns: list[str] = field(default_factory=list)
    _free_places: list[str] = field(default_factory=list)
    _gap: str = ""

    # ------------------------------------------------------------------- casting

    def cast(self, size: int, *, plain: bool = False) -> None:
        """Choose `size` people; the first is the hero. Plain people have no trade."""
        rng, scope = self.rng, self.scope
        girls = draw(rng, scope.girls, size)
        boys = draw(rng, scope.boys, size)
        relations = {True: set(), False: set()}
        jobs: set[str] = set()
        for index in range(size):
            female = rng.random() < 0.5
            person = Person((girls if female else boys)[index], female)
            self.people.append(person)
            if plain:
                continue
            if index == 0:
                person.child = rng.random() < 0.55
                if not person.child:
                    person.job = choose(rng, tuple(JOBS))
                    jobs.add(person.job)
                continue
            luck = rng.random()
            if luck < 0.45:
                relation = choose(rng, RELATIONS[female])
                if relation not in relations[female]:
                    relations[female].add(relation)
                    person.relation = relation
                    person.child = self.hero.child and relation in CHILD_RELATIONS
            elif luck < 0.85:
                job = choose(rng, tuple(JOBS))
                if job not in jobs:
                    jobs.add(job)
                    person.job = job
        for job in sorted(jobs):
            self.known_place(JOBS[job])  # nobody else is to be found there

    def set_scene(self, weathers: Sequence[str] = tuple(WEATHERS)) -> None:
        """Choose day, month and weather; snow keeps to winter, warm sun to summer."""
        rng = self.rng
        self.day = choose(rng, DAYS)
        self.weather = choose(rng, weathers)
        winter, summer = (*MONTHS[:2], MONTHS[11]), MONTHS[4:9]
        seasons = {"snowy": winter, "sunny": summer}
        months = summer if self.plot == "harvest" else MONTHS
        self.month = choose(rng, seasons.get(self.weather, months))

    @property
    def hero(self) -> Person:
        return self.people[0]

    def present(self, person: Person, family: str) -> None:
        """Say who this is, with a trait that suits what is to come."""
        person.trait = choose(self.rng, TRAITS[family])
        self.tell("hero", person)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, *options: T) -> T:
        return choose(self.rng, options)

    def new_thing(self, owner: Person) -> Thing:
        """A thing that suits its owner: no axe for a child, no doll for a cook."""
        return self._new_thing(("tool", "pot") if owner.child else ("toy",))

    def new_gift(self, owner: Person) -> Thing:
        """A thing to be fond of: nobody treasures a bucket."""
        unfit = ("tool", "pot") if owner.child else ("tool", "pot", "toy")
        return self._new_thing(unfit)

    def _new_thing(self, unfit: tuple[str, ...]) -> Thing:
        if not self._free_nouns:
            nouns = self.scope.things
            self._free_nouns = draw(self.rng, nouns, len(nouns))
        for noun in self._free_nouns:
            if KINDS[noun].family not in unfit:
                self._free_nouns.remove(noun)
                kind = KINDS[noun]
                return Thing(kind, choose(self.rng, kind.looks))
        raise AssertionError("the world ran out of things")

    def _mix_places(self) -> None:
        if not self._free_places:
            names = self.scope.places
            self._free_places = draw(self.rng, names, len(names))

    def new_place(self, *grounds: str) -> Place:
        """A place the story has not used yet, on one of these grounds if given."""
        self._mix_places()
        for name in self._free_places:
            place = PLACES[name]
            if not grounds or place.ground in grounds:
                self._free_places.remove(name)
                return place
        raise AssertionError("the world ran out of places")

    def known_place(self, name: str) -> Place:
        """A place by name, no longer free for others."""
        self._mix_places()
        if name in self._free_places:
            self._free_places.remove(name)
        return PLACES[name]

    def home_of(self, person: Person) -> Place:
        """Where a person is to be found: at work, or anywhere."""
        if person in self.location:
            return self.location[person]
        if person.job is not None:
            place = self.known_place(JOBS[person.job])
        else:
            place = self.new_place()
        self.location[person] = place
        return place

    def place_for(self, use: Use) -> Place:
        """Where a thing is used, within the world's scope when that is possible."""
        inside = [name for name in use.places if name in self.scope.places]
        return self.known_place(choose(self.rng, inside or use.places))

    # ------------------------------------------------------------------- telling

    def pause(self, gap: str) -> None:
        """Let time pass before the next event."""
        self._gap = gap

    def tell(self, kind: str, actor: Person | None = None, **roles) -> Event:
        """Write an event that changes nothing: a word, a feeling, a wish."""
        event = Event(kind, actor, gap=self._gap, **roles)
        self._gap = ""
        self.events.append(event)
        return event

    # ------------------------------------------------------------------- actions

    def _hold(self, person: Person, thing: Thing) -> None:
        self.holder[thing] = person
        self.lying.pop(thing, None)
        self.holders.setdefault(thing, []).append(person)

    def _lay(self, thing: Thing, place: Place) -> None:
        self.holder.pop(thing, None)
        self.lying[thing] = place

    def own(self, person: Person, thing: Thing, kind: str = "own", **roles) -> None:
        """A person has a thing from the start."""
        self._hold(person, thing)
        self.tell(kind, person, thing=thing, **roles)

    def want(self, person: Person, thing: Thing, kind: str = "want", **roles) -> None:
        self.wants[person] = thing
        self.tell(kind, person, thing=thing, **roles)

    def go(self, person: Person, place: Place, kind: str = "go", **roles) -> None:
        """Walk somewhere; nothing happens if the person is there already."""
        if self.location.get(person) is place:
            self._gap = ""  # no time passes without a walk
            return
        seen = self.visited.setdefault(person, [])
        if place in seen and kind == "go":
            kind = "go_back"
        seen.append(place)
        self.location[person] = place
        self.tell(kind, person, place=place, **roles)

    def give(
        self, giver: Person, taker: Person, thing: Thing, kind: str = "give", **roles
    ) -> None:
        """Hand a thing over; `kind` tells how (give, lend, return, ...)."""
        assert self.holder[thing] is giver, f"{giver.name} has no {thing.noun}"
        self._hold(taker, thing)
        self.givers[thing, taker] = giver
        self.tell(kind, giver, other=taker, thing=thing, **roles)

    def leave(self, person: Person, thing: Thing, kind: str = "leave") -> None:
        """Leave a thing where the person is: forgotten, lost or hidden."""
        assert self.holder[thing] is person, f"{person.name} has no {thing.noun}"
        self._lay(thing, self.location[person])
        self.tell(kind, person, thing=thing, place=self.location[person])

    def find(self, person: Person, thing: Thing, kind: str = "find") -> None:
        """Pick up a thing that lies where the person is."""
        place = self.lying[thing]
        assert self.location[person] is place, f"{person.name} is elsewhere"
        self._hold(person, thing)
        self.tell(kind, person, thing=thing, place=place)

    def snatch(self, thief: str, victim: Person, thing: Thing, place: Place) -> None:
        """An animal or the wind carries a thing off and drops it somewhere else."""
        assert self.holder[thing] is victim, f"{victim.name} has no {thing.noun}"
        self._lay(thing, place)
        kind = "blow" if thief == "wind" else "snatch"
        self.tell(kind, victim, thing=thing, place=place, note=thief)

    def swap(self, one: Person, two: Person, mine: Thing, yours: Thing) -> None:
        """`one` gives `mine` and gets `yours`."""
        assert self.holder[mine] is one, f"{one.name} has no {mine.noun}"
        assert self.holder[yours] is two, f"{two.name} has no {yours.noun}"
        self._hold(two, mine)
        self._hold(one, yours)
        self.givers[mine, two], self.givers[yours, one] = one, two
        self.tell("swap", one, other=two, thing=mine, second=yours)

    # ------------------------------------------------------------------ counting

    def gain(self, person: Person, count: int, kind: str = "gain", **roles) -> None:
        self.counts[person] = self.counts.get(person, 0) + count
        self.first_counts.setdefault(person, count)
        self.tell(kind, person, count=count, note=self.counted, **roles)

    def share(self, giver: Person, taker: Person, count: int, **roles) -> None:
        """Give `count` of what is counted to somebody who may have some already."""
        assert self.counts[giver] >= count
        self.counts[giver] -= count
        self.counts[taker] = self.counts.get(taker, 0) + count
        self.first_counts.setdefault(taker, count)
        self.tell("share", giver, other=taker, count=count, note=self.counted, **roles)

    def spend(self, person: Person, count: int, kind: str, **roles) -> None:
        """Lose, eat, sell or use up `count` of what is counted."""
        assert self.counts[person] >= count
        self.counts[person] -= count
        self.tell(kind, person, count=count, note=self.counted, **roles)

    def pick_counted(self, wanted: frozenset[str] | None = None) -> None:
        names = [n for n in self.scope.counted if wanted is None or n in wanted]
        self.counted = choose(self.rng, names)

    def amount(self, low: int, high: int) -> int:
        return between(self.rng, low, high)


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "cherry"), counted(3, "cherry")
    ('one cherry', 'three cherries')
    """
    return f"{NUMBERS[count]} {noun if count == 1 else PLURALS[noun]}"
