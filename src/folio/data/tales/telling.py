"""From events to English: who is called what, and which deeds share a sentence.

Slots that a template may use, for the roles A (actor), B (other), C (third):

    {A} {@A} {A!} {A's}      subject, object, bare name, possessive
    {he} {him} {his} {He}    pronouns of A inside a sentence that named A
    {B:he} {B:him} {B:his}   the same for another role
    {said:A} {asked:A} ...   who speaks: "said Mara", "Mara said" or "she said"

for the things O (thing) and X (second):

    {O} {O=} {O+} {aO} {aO!} {O!}
    "it" or "the kite"; never "it"; "a red kite" when new; "a red kite"; "a kite"; "kite"

and {P} "the mill", {atP} "in the mill" or "there", {P!} always "in the mill".
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from folio.data.tales.grammar import (
    GERUND,
    INFINITIVE,
    PARTICIPLE,
    PAST,
    Choice,
    Part,
    Verb,
    article,
    capitalize,
    choose,
    compiled,
)
from folio.data.tales.lexicon import NUMBERS, PLURALS, SPOTS, WEATHERS
from folio.data.tales.phrases import DEEDS, GAPS, SENTENCES
from folio.data.tales.world import Event, Person, Place, Thing, World, counted

PRONOUN_SHARE = 0.6  # names recur all the same: what is copied must be seen often
IT_SHARE = 0.5
SCENE_SHARE = 0.22
SILENT = frozenset({"own_silent"})
ROLES = {"A": "actor", "B": "other", "C": "third", "O": "thing", "X": "second"}


class Teller:
    """Tells the events of one world; knows what the listener has heard so far."""

    def __init__(self, world: World, rng: random.Random, scenes: bool = True):
        self.world = world
        self.rng = rng
        self.scenes = scenes
        self.sentences: list[str] = []
        self.introduced: set[Person] = set()
        self.seen: set[Thing] = set()
        self.told_scenes: set[Place] = set()
        # what the last sentence and the one being built speak of
        self.last_people: list[Person] = []
        self.people: list[Person] = []
        self.last_thing: Thing | None = None
        self.things: list[Thing] = []
        self.last_place: Place | None = None
        self.place: Place | None = None
        # the event and verb form being rendered
        self.event: Event = Event("")
        self.form = PAST

    # ------------------------------------------------------------------ sentences

    def tell(self) -> str:
        """The whole story."""
        events = [e for e in self.world.events if e.kind not in SILENT]
        at = 0
        while at < len(events):
            event = events[at]
            if event.kind not in DEEDS:
                self._say(event, self._gap(event) + self.render(event))
                at += 1
                continue
            end = at + 1
            while (
                end < len(events)
                and end - at < 3
                and events[end].kind in DEEDS
                and events[end].actor is event.actor
                and not events[end].gap
                and self.rng.random() < 0.8
            ):
                end += 1
            self._say(event, self._join(events[at:end]))
            self._maybe_scene(events[end - 1])
            at = end
        return " ".join(self.sentences)

    def _say(self, event: Event, text: str) -> None:
        self.sentences.append(capitalize(text))
        self.last_people, self.people = self.people, []
        # "it" needs exactly one candidate
        self.last_thing = self.things[0] if len(set(self.things)) == 1 else None
        self.seen.update(self.things)
        self.things = []
        self.last_place = self.place or self.last_place
        self.place = None

    def _maybe_scene(self, event: Event) -> None:
        """On arrival, now and then, what is to be seen there."""
        place = event.place
        if (
            self.scenes
            and place is not None
            and event.kind in ("go", "rest")
            and place not in self.told_scenes
            and self.rng.random() < SCENE_SHARE
        ):
            self.told_scenes.add(place)
            self.place = place
            self._say(event, choose(self.rng, place.scenes))

    def _gap(self, event: Event) -> str:
        return self._parts(compiled(GAPS[event.gap])) if event.gap else ""

    def _join(self, events: Sequence[Event]) -> str:
        """One sentence for up to three deeds of one person."""
        lead = self._gap(events[0])
        person = events[0].actor
        if len(events) == 1:
            return f"{lead}{self.subject(person)} {self._deed(events[0], PAST)}."
        luck = self.rng.random()
        first, *rest = events
        if len(events) == 2 and not lead and luck < 0.28:
            return self._subordinate(first, rest[0], person, luck)
        words = [lead + self.subject(person)]
        words.append(self._deed(first, PAST))
        for event in rest[:-1]:
            words[-1] += ","
            words.append(self._deed(event, PAST))
        link = "and then" if luck > 0.85 else "and"
        return " ".join(words) + f" {link} {self._deed(rest[-1], PAST)}."

    def _subordinate(
        self, first: Event, second: Event, person: Person, luck: float
    ) -> str:
        if luck < 0.14:
            opening = self._deed(first, GERUND)
            return (
                f"after {opening}, {self.subject(person)} {self._deed(second, PAST)}."
            )
        opening = f"when {self.subject(person)} had {self._deed(first, PARTICIPLE)}"
        return f"{opening}, {self.pronoun(person, 0)} {self._deed(second, PAST)}."

    def _deed(self, event: Event, form: int) -> str:
        self.event, self.form = event, form
        return self._parts(compiled(DEEDS[event.kind]))

    def render(self, event: Event) -> str:
        self.event, self.form = event, PAST
        return self._parts(compiled(SENTENCES[event.kind]))

    def _parts(self, parts: Sequence[Part]) -> str:
        out: list[str] = []
        self._walk(parts, out)
        return "".join(out)

    def _walk(self, parts: Sequence[Part], out: list[str]) -> None:
        for part in parts:
            kind = part.__class__
            if kind is str:
                out.append(part)
            elif kind is Choice:
                self._walk(part[int(self.rng.random() * len(part))], out)
            elif kind is Verb:
                out.append(part[self.form])
            else:
                method, argument = SLOTS[part.name]
                out.append(method(self, argument))

    # --------------------------------------------------------------------- people

    def _clear(self, person: Person) -> bool:
        """Whether a pronoun could mean nobody else."""
        female = person.female
        for other in self.people:
            if other is not person and other.female == female:
                return False
        for other in self.last_people:
            if other is not person and other.female == female:
                return False
        return True

    def subject(self, person: Person) -> str:
        if person not in self.introduced:
            return self._introduce(person)
        known = person in self.people or person in self.last_people
        if known and self._clear(person) and self.rng.random() < PRONOUN_SHARE:
            name = person.pronouns[0]
        else:
            name = person.name
        self.people.append(person)
        return name

    def object(self, person: Person) -> str:
        if person not in self.introduced:
            return self._introduce(person)
        here = person in self.people
        share = 0.9 if here else PRONOUN_SHARE
        if (
            (here or person in self.last_people)
            and self._clear(person)
            and self.rng.random() < share
        ):
            name = person.pronouns[1]
        else:
            name = person.name
        self.people.append(person)
        return name

    def pronoun(self, person: Person, case: int) -> str:
        """He, him or his where the sentence allows it, otherwise the name.

        Only people named in this very sentence can be confused.
        """
        for other in self.people:
            if other is not person and other.female == person.female:
                return person.name + ("'s" if case == 2 else "")
        return person.pronouns[case]

    def name(self, person: Person) -> str:
        self.introduced.add(person)
        self.people.append(person)
        return person.name

    def possessive(self, person: Person) -> str:
        known = person in self.people or person in self.last_people
        if known and self._clear(person) and self.rng.random() < PRONOUN_SHARE:
            self.people.append(person)
            return person.pronouns[2]
        return self.object_name(person) + "'s"

    def object_name(self, person: Person) -> str:
        if person not in self.introduced:
            return self._introduce(person)
        self.people.append(person)
        return person.name

    def _introduce(self, person: Person) -> str:
        """The first mention says who this is: "her cousin Ben", "Ben the baker"."""
        self.introduced.add(person)
        hero = self.world.hero
        name = person.name
        if person.relation and hero in self.introduced:
            near = hero in self.people or hero in self.last_people
            owner = hero.pronouns[2] if near and self._clear(hero) else hero.name + "'s"
            text = f"{owner} {person.relation} {name}"
        elif person.job and person is not hero:
            text = f"{name} the {person.job}"
        else:
            text = name
        self.people.append(person)
        return text

    # --------------------------------------------------------------------- things

    def definite(self, thing: Thing) -> str:
        """ "it" when nothing else can be meant, otherwise "the kite"."""
        alone = all(other is thing for other in self.things)
        if (
            alone
            and (thing is self.last_thing or self.things)
            and self.rng.random() < IT_SHARE
        ):
            self.things.append(thing)
            return "it"
        return self.the(thing)

    def the(self, thing: Thing) -> str:
        self.things.append(thing)
        if thing in self.seen and self.rng.random() < 0.88:
            return "the " + thing.noun
        return f"the {thing.look} {thing.noun}"

    def auto(self, thing: Thing) -> str:
        return self.the(thing) if thing in self.seen else self.a(thing)

    def a(self, thing: Thing) -> str:
        self.things.append(thing)
        return article(f"{thing.look} {thing.noun}")

    def a_kind(self, thing: Thing) -> str:
        self.things.append(thing)
        return article(thing.noun)

    def noun(self, thing: Thing) -> str:
        self.things.append(thing)
        return thing.noun

    # --------------------------------------------------------------------- places

    def to_place(self, _: str) -> str:
        self.place = self.event.place
        return self.place.the

    def at_place(self, _: str) -> str:
        place = self.event.place
        if place in (self.place, self.last_place) and self.rng.random() < 0.85:
            self.place = place
            return "there"
        return self.in_place("")

    def in_place(self, _: str) -> str:
        self.place = self.event.place
        return self.place.where

    def spot(self, _: str) -> str:
        return choose(self.rng, SPOTS[self.event.place.indoors])

    # ----------------------------------------------------------- slots with a role

    def _person(self, role: str) -> Person:
        return getattr(self.event, role)

    def say(self, verb_and_role: tuple[str, str]) -> str:
        """ "said Mara", "Mara said", "she said"; never "said she"."""
        verb, role = verb_and_role
        person = self._person(role)
        name = self.subject(person)
        if name == person.name and self.rng.random() < 0.6:
            return f"{verb} {name}"
        return f"{name} {verb}"

    def himself(self, _: str) -> str:
        return "herself" if self.event.actor.female else "himself"

    def described(self, role: str) -> str:
        """ "Ben the baker" even inside somebody's words."""
        person = self._person(role)
        new = person not in self.introduced
        name = self.name(person)
        return f"{name} the {person.job}" if new and person.job else name

    # --------------------------------------------------------------- other slots

    def trait(self, _: str) -> str:
        return article(self.event.actor.trait)

    def kind_of_person(self, _: str) -> str:
        person = self.event.actor
        if person.job:
            return person.job
        if person.child:
            return "girl" if person.female else "boy"
        return "woman" if person.female else "man"

    def weather(self, _: str) -> str:
        return choose(self.rng, WEATHERS[self.world.weather])

    def world_word(self, name: str) -> str:
        return getattr(self.world, name)

    def note(self, _: str) -> str:
        return self.event.note

    def flew(self, _: str) -> str:
        return "flew off" if self.event.note in ("crow", "owl") else "ran off"

    def chore(self, _: str) -> str:
        form, self.form = self.form, INFINITIVE
        text = self._parts(compiled(self.event.note))
        self.form = form
        return text

    def reason(self, _: str) -> str:
        him = self.event.actor.pronouns[1]
        return {
            "ill": "was ill",
            "busy": "had no time",
            "old": f"found that the road was too long for {him}",
        }[self.event.note]

    def counted(self, _: str) -> str:
        return counted(self.event.count, self.event.note)

    def number(self, _: str) -> str:
        return NUMBERS[self.event.count]

    def items(self, _: str) -> str:
        return PLURALS[self.event.note]

    # ------------------------------------------------------------------- purposes

    def _use(self, form: int, thing: str, *, tail: str = "") -> str:
        saved, self.form = self.form, form
        phrase = self._parts(compiled(self.event.use.phrase))
        self.form = saved
        if "_" in phrase:
            return phrase.replace("_ ", thing + " " if thing else "")
        return phrase + tail

    def deed(self, _: str) -> str:
        """ "flew the kite in the wind", "mended the fence with the hammer"."""
        thing = self.definite(self.event.thing)
        return self._use(self.form, thing, tail=f" with {thing}")

    def goal(self, _: str) -> str:
        """After "a kite to": "fly in the wind"."""
        return self._use(INFINITIVE, "")

    def goal_with(self, _: str) -> str:
        """ "fly a kite in the wind", "mend the fence"."""
        return self._use(INFINITIVE, self.a_kind(self.event.thing))

    def lack(self, _: str) -> str:
        direct = "_" in self.event.use.phrase
        return "had none" if direct else f"had no {self.event.thing.noun}"


def _by_role(method, role: str, case: int | None = None):
    attribute = ROLES[role]
    if case is None:
        return lambda teller, _: method(teller, getattr(teller.event, attribute))
    return lambda teller, _: method(teller, getattr(teller.event, attribute), case)


def _slots() -> dict[str, tuple]:
    slots: dict[str, tuple] = {}
    for role in "ABC":
        slots[role] = (_by_role(Teller.subject, role), "")
        slots["@" + role] = (_by_role(Teller.object, role), "")
        slots[role + "!"] = (_by_role(Teller.name, role), "")
        slots[role + "'s"] = (_by_role(Teller.possessive, role), "")
        slots[role + "+"] = (Teller.described, ROLES[role])
        for case, word in enumerate(("he", "him", "his")):
            slots[f"{role}:{word}"] = (_by_role(Teller.pronoun, role, case), "")
        for verb in ("said", "asked", "cried", "thought"):
            slots[f"{verb}:{role}"] = (Teller.say, (verb, ROLES[role]))
    for word in ("he", "him", "his"):
        slots[word] = slots["A:" + word]
    slots["He"] = (lambda teller, _: capitalize(teller.pronoun(teller.event.actor, 0)), "")
    for role in "OX":
        slots[role] = (_by_role(Teller.definite, role), "")
        slots[role + "="] = (_by_role(Teller.the, role), "")
        slots[role + "+"] = (_by_role(Teller.auto, role), "")
        slots["a" + role] = (_by_role(Teller.a, role), "")
        slots[f"a{role}!"] = (_by_role(Teller.a_kind, role), "")
        slots[role + "!"] = (_by_role(Teller.noun, role), "")
    for name in ("day", "month"):
        slots[name] = (Teller.world_word, name)
    plain = {
        "P": Teller.to_place, "atP": Teller.at_place, "P!": Teller.in_place,
        "spot": Teller.spot, "himself": Teller.himself, "a_trait": Teller.trait,
        "person": Teller.kind_of_person, "weather": Teller.weather,
        "note": Teller.note, "flew": Teller.flew, "chore": Teller.chore,
        "reason": Teller.reason, "n": Teller.counted, "num": Teller.number,
        "items": Teller.items, "deed": Teller.deed, "goal": Teller.goal,
        "goal_with": Teller.goal_with, "lack": Teller.lack,
    }  # fmt: skip
    for name, method in plain.items():
        slots[name] = (method, "")
    return slots


SLOTS = _slots()
