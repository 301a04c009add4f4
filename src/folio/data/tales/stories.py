"""A story: premise → plot → events → English, with its questions."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from folio.data.tales.grammar import choose
from folio.data.tales.lexicon import SCOPES, WEATHERS
from folio.data.tales.plots import BRIEF_PLOTS, PLOTS, WEIGHTED_PLOTS, repay
from folio.data.tales.questions import questions
from folio.data.tales.skills import Problem
from folio.data.tales.splits import Split, split_of
from folio.data.tales.telling import Teller
from folio.data.tales.world import World

Scale = Literal["full", "small"]  # long tales of many words, or brief ones of few

_OPENINGS = {
    "full": ("open_day", "open_day", "open_month", "open_weather"),
    "small": ("open_briefly", "open_weather"),
}


# Nobody has a picnic in the snow.
_SEASONS = {
    "picnic": ("sunny",),
    "harvest": ("sunny", "sunny", "windy", "foggy"),
    "seek": ("sunny", "windy", "foggy", "snowy"),
}


@dataclass(frozen=True, slots=True)
class Story:
    """A told world: `text`, the world it was told from, and what can be asked."""

    text: str
    world: World
    questions: list[Problem]

    @property
    def premise(self) -> tuple:
        return premise(self.world)

    @property
    def names(self) -> set[str]:
        """The people who appear in the text."""
        cast = {person.name for person in self.world.people}
        return cast & set(re.findall(r"\w+", self.text))

    @property
    def nouns(self) -> set[str]:
        """The things that appear in the text."""
        things = [*self.world.holders, *self.world.wants.values()]
        return {thing.noun for thing in things}


def premise(world: World) -> tuple:
    """What a story starts from; its hash decides the split, before anything happens.

    Coarser than the full facts on purpose: stories of equal premise never lie on
    two sides of a split, however differently they go on.
    """
    cast = tuple(person.name for person in world.people)
    return (world.plot, cast, world.day, world.weather)


def story(rng: random.Random, split: Split, scale: Scale = "full") -> Story:
    """A story of this split, drawn from `rng`."""
    small = scale == "small"
    while True:
        world = World(rng, SCOPES[scale])
        world.plot = choose(rng, tuple(BRIEF_PLOTS) if small else WEIGHTED_PLOTS)
        world.cast(2 if small else 4, plain=small)
        world.set_scene(_SEASONS.get(world.plot, tuple(WEATHERS)))
        if split_of(*premise(world)) == split:
            break
    world.tell(choose(rng, _OPENINGS[scale]))
    if small:
        BRIEF_PLOTS[world.plot](world)
    else:
        _play(world)
    text = Teller(world, rng, scenes=not small).tell()
    return Story(text, world, questions(world))


def _play(world: World) -> None:
    """A plot, now and then a debt paid later, and an ending."""
    helper = PLOTS[world.plot](world)
    if helper is not None and world.chance(0.3):
        repay(world, helper)
    if helper is not None and world.chance(0.7):
        world.tell("end_friends", world.hero, other=helper)
    elif world.chance(0.7):
        world.tell("end_glad", world.hero)
