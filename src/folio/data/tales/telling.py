"""From events to English: which deeds share a sentence, and how they are joined."""

from __future__ import annotations

import random
from collections.abc import Sequence

from folio.data.tales.grammar import (
    GERUND,
    PARTICIPLE,
    PAST,
    Choice,
    Part,
    Verb,
    capitalize,
    choose,
    compiled,
)
from folio.data.tales.lexicon import Place
from folio.data.tales.phrases import DEEDS, GAPS, SENTENCES
from folio.data.tales.references import SUBJECT, Discourse
from folio.data.tales.slots import resolve
from folio.data.tales.world import Event, Person, World

_DEEDS = {kind: resolve(compiled(template)) for kind, template in DEEDS.items()}
_SENTENCES = {kind: resolve(compiled(text)) for kind, text in SENTENCES.items()}
_GAPS = {kind: resolve(compiled(text)) for kind, text in GAPS.items()}

LISTED = frozenset({"bring"})  # what several people do, told in one sentence
SILENT = frozenset({"own_silent"})  # had all along, worth a word when given away
SCENE_SHARE = 0.4
JOIN_SHARE = 0.8
MOST_JOINED = 3
EITHER_SHARE = 0.5  # of the events that can be a deed or a sentence
# In two-deed sentences: "After doing x, ..." and "When she had done x, she ..."
AFTER_SHARE, WHEN_SHARE = 0.13, 0.13
THEN_SHARE = 0.08  # "and then" for "and"


class Teller(Discourse):
    """Tells the events of one world."""

    def __init__(self, world: World, rng: random.Random, *, scenes: bool = True):
        super().__init__(rng, world.hero)
        self.world = world
        self.scenes = scenes
        self.sentences: list[str] = []
        self.scenes_told: set[Place] = set()
        # what is being rendered
        self.event = Event("")
        self.form = PAST

    def tell(self) -> str:
        """The whole story."""
        events = [e for e in self.world.events if e.kind not in SILENT]
        at = 0
        while at < len(events):
            run = self._deeds_from(events, at)
            if run:
                self._add(self._join(run))
                self._maybe_scene(run[-1])
                at += len(run)
            else:
                last = self._listed_until(events, at)
                self._add(self._list(events[at:last]))
                at = last
        return " ".join(self.sentences)

    def _listed_until(self, events: Sequence[Event], at: int) -> int:
        """Where a row of equal events ends that one sentence lists."""
        end = at + 1
        if events[at].kind in LISTED:
            while end < len(events) and events[end].kind == events[at].kind:
                end += 1
        return end

    def _list(self, events: Sequence[Event]) -> str:
        """A sentence; or one for all: "Ben brought a drum, and Ana brought a kite"."""
        clauses = [self._sentence(event) for event in events]
        if len(clauses) == 1:
            return clauses[0]
        return ", ".join(c.rstrip(".") for c in clauses[:-1]) + f", and {clauses[-1]}"

    def _sentence(self, event: Event) -> str:
        self.event, self.form = event, PAST
        return self._gap(event) + self.fill(_SENTENCES[event.kind])

    def fill(self, parts: Sequence[Part]) -> str:
        """Render a resolved template for the current event and verb form."""
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
                out.append(part(self))

    def _add(self, sentence: str) -> None:
        self.sentences.append(capitalize(sentence))
        self.end_sentence()

    def _gap(self, event: Event) -> str:
        return self.fill(_GAPS[event.gap]) if event.gap else ""

    def _maybe_scene(self, event: Event) -> None:
        """On arrival, now and then, what is to be seen there."""
        place = event.place
        if (
            self.scenes
            and event.kind in ("go", "rest", "carry")
            and place not in self.scenes_told
            and self.rng.random() < SCENE_SHARE
        ):
            self.scenes_told.add(place)
            weather = self.world.weather
            scenes = place.scenes
            if not place.indoors and weather == "snowy":
                return  # no frogs in the snow
            if weather == "sunny":
                scenes += place.sunny_scenes
            self.place = place
            self._add(choose(self.rng, scenes))

    # ---------------------------------------------------------------------- deeds

    def _is_deed(self, event: Event) -> bool:
        kind = event.kind
        if kind not in _DEEDS:
            return False
        return kind not in _SENTENCES or self.rng.random() < EITHER_SHARE

    def _deeds_from(self, events: Sequence[Event], at: int) -> Sequence[Event]:
        """Up to three deeds of one person in a row, to share a sentence."""
        if not self._is_deed(events[at]):
            return ()
        actor, end = events[at].actor, at + 1
        while (
            end < len(events)
            and end - at < MOST_JOINED
            and events[end].actor is actor
            and not events[end].gap
            and self.rng.random() < JOIN_SHARE
            and self._is_deed(events[end])
        ):
            end += 1
        return events[at:end]

    def _deed(self, event: Event, form: int) -> str:
        self.event, self.form = event, form
        return self.fill(_DEEDS[event.kind])

    def _join(self, events: Sequence[Event]) -> str:
        """One sentence for one, two or three deeds of a person."""
        gap, person = self._gap(events[0]), events[0].actor
        luck = self.rng.random()
        if len(events) == 2 and not gap and luck < AFTER_SHARE + WHEN_SHARE:
            subordinate = self._after if luck < AFTER_SHARE else self._when
            return subordinate(events[0], events[1], person)
        text = f"{gap}{self.subject(person)} {self._deed(events[0], PAST)}"
        for event in events[1:-1]:
            text += f", {self._deed(event, PAST)}"
        if len(events) > 1:
            link = " and then " if luck > 1 - THEN_SHARE else " and "
            text += link + self._deed(events[-1], PAST)
        return text + "."

    def _after(self, first: Event, second: Event, person: Person) -> str:
        opening = self._deed(first, GERUND)
        return f"after {opening}, {self.subject(person)} {self._deed(second, PAST)}."

    def _when(self, first: Event, second: Event, person: Person) -> str:
        opening = f"when {self.subject(person)} had {self._deed(first, PARTICIPLE)}"
        again = self.pronoun(person, SUBJECT)
        return f"{opening}, {again} {self._deed(second, PAST)}."
