"""Who and what is called how: names, pronouns, "a kite", "the kite", "it", "there".

A pronoun is used only for somebody of the last sentence (or this one) whom nobody
else of the same gender could be confused with; "it" only for the one thing spoken
of. The first mention of a person says who it is: "her cousin Ben", "Ben the baker".
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from folio.data.tales.grammar import article, choose
from folio.data.tales.lexicon import SPOTS, Place
from folio.data.tales.world import Person, Thing

PRONOUN_SHARE = 0.4  # names recur often: what is to be copied must be seen
NEAR_PRONOUN_SHARE = 0.9  # the second mention within one sentence
IT_SHARE = 0.5
NEAR_IT_SHARE = 0.8
LOOK_SHARE = 0.12  # "the red kite" where "the kite" would do
THERE_SHARE = 0.85

SUBJECT, OBJECT, POSSESSIVE = range(3)


class Discourse:
    """What the listener knows, and what the last two sentences speak of."""

    def __init__(self, rng: random.Random, hero: Person):
        self.rng = rng
        self.hero = hero
        self.introduced: set[Person] = set()
        self.seen: set[Thing] = set()
        self.last_people: list[Person] = []
        self.people: list[Person] = []
        self.last_thing: Thing | None = None
        self.things: list[Thing] = []
        self.last_place: Place | None = None
        self.place: Place | None = None
        self.spots: dict[tuple[Thing | Person, Place], str] = {}

    def end_sentence(self) -> None:
        """What this sentence spoke of becomes what the last one spoke of."""
        self.last_people, self.people = self.people, []
        # "it" needs exactly one candidate
        self.last_thing = self.things[0] if len(set(self.things)) == 1 else None
        self.seen.update(self.things)
        self.things = []
        self.last_place, self.place = self.place or self.last_place, None

    # --------------------------------------------------------------------- people

    def subject(self, person: Person) -> str:
        """ "Mara" or "she"."""
        return self._refer(person, SUBJECT, PRONOUN_SHARE)

    def object(self, person: Person) -> str:
        """ "Mara" or "her"."""
        near = person in self.people
        return self._refer(
            person, OBJECT, NEAR_PRONOUN_SHARE if near else PRONOUN_SHARE
        )

    def possessive(self, person: Person) -> str:
        """ "Mara's" or "her"."""
        word = self._refer(person, POSSESSIVE, PRONOUN_SHARE)
        return word if word == person.pronouns[POSSESSIVE] else word + "'s"

    def _refer(self, person: Person, case: int, share: float) -> str:
        if person not in self.introduced:
            return self._introduce(person)
        word = person.name
        if (
            (person in self.people or person in self.last_people)
            and self._unmistakable(person)
            and self.rng.random() < share
        ):
            word = person.pronouns[case]
        self.people.append(person)
        return word

    def _unmistakable(self, person: Person) -> bool:
        """Whether a pronoun could mean nobody else."""
        return not (
            self._same_gender(person, self.people)
            or self._same_gender(person, self.last_people)
        )

    @staticmethod
    def _same_gender(person: Person, people: Sequence[Person]) -> bool:
        """Whether somebody else of these could be meant by the person's pronoun."""
        female = person.female
        return any(p.female == female and p is not person for p in people)

    def pronoun(self, person: Person, case: int) -> str:
        """He, him or his for somebody whom this sentence has named already.

        The name where somebody else of the sentence could be meant; "his" is the
        subject's in all our phrases, and clear.
        """
        self.people.append(person)
        if case == POSSESSIVE:
            return person.pronouns[case]
        if self._same_gender(person, self.people):
            return person.name
        return person.pronouns[case]

    def name(self, person: Person) -> str:
        """The bare name, as in an address."""
        self.introduced.add(person)
        self.people.append(person)
        return person.name

    def described(self, person: Person) -> str:
        """ "Ben the baker" when new, even inside somebody's words."""
        new = person not in self.introduced
        name = self.name(person)
        return f"{name} the {person.job}" if new and person.job else name

    def _introduce(self, person: Person) -> str:
        self.introduced.add(person)
        hero, text = self.hero, person.name
        if person.relation and hero in self.introduced:
            if hero in self.people:
                clear = all(
                    p.female != hero.female for p in self.people if p is not hero
                )
            else:
                clear = hero in self.last_people and self._unmistakable(hero)
            whose = hero.pronouns[POSSESSIVE] if clear else hero.name + "'s"
            text = f"{whose} {person.relation} {person.name}"
            self.people.append(hero)
        elif person.job and person is not hero:
            text = f"{person.name} the {person.job}"
        self.people.append(person)
        return text

    # --------------------------------------------------------------------- things

    def definite(self, thing: Thing) -> str:
        """ "it" when nothing else can be meant, otherwise "the kite"."""
        things = self.things
        share = NEAR_IT_SHARE if things else IT_SHARE
        spoken_of = thing in things if things else thing is self.last_thing
        alone = len(set(things) | {thing}) == 1
        if spoken_of and alone and self.rng.random() < share:
            things.append(thing)
            return "it"
        return self.the(thing)

    def the(self, thing: Thing) -> str:
        """ "the kite"; at the first mention, and now and then, "the red kite"."""
        self.things.append(thing)
        if thing in self.seen and self.rng.random() >= LOOK_SHARE:
            return "the " + thing.noun
        return f"the {thing.look} {thing.noun}"

    def a_or_the(self, thing: Thing) -> str:
        return self.the(thing) if thing in self.seen else self.a(thing)

    def a(self, thing: Thing) -> str:
        """ "a red kite"."""
        self.things.append(thing)
        return article(f"{thing.look} {thing.noun}")

    def a_kind(self, thing: Thing) -> str:
        """ "a kite": any would do."""
        self.things.append(thing)
        return article(thing.noun)

    def noun(self, thing: Thing) -> str:
        self.things.append(thing)
        return thing.noun

    # --------------------------------------------------------------------- places

    def to_place(self, place: Place) -> str:
        """ "the mill"."""
        self.place = place
        return place.the

    def in_place(self, place: Place) -> str:
        """ "in the mill"."""
        self.place = place
        return place.where

    def at_place(self, place: Place) -> str:
        """ "in the mill", or "there" if that is where we are."""
        here = place is self.place or place is self.last_place
        self.place = place
        return "there" if here and self.rng.random() < THERE_SHARE else place.where

    def spot(self, what: Thing | Person, place: Place) -> str:
        """ "under a bench": the same for a thing until it is moved."""
        key = (what, place)
        if key not in self.spots:
            self.spots[key] = choose(self.rng, SPOTS[place.ground])
        return self.spots[key]
