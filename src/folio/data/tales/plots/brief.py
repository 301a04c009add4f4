"""Plots of twenty to forty words for two people: the world of instructions.

Everything a question may ask is said once and plainly, so that a small model can
learn to read it. Events and phrases are those of the long tales.
"""

from __future__ import annotations

from folio.data.tales.lexicon import GATHERED
from folio.data.tales.world import Person, Thing, World


def _wish(w: World, person: Person) -> Thing:
    thing = w.new_thing(person)
    w.want(person, thing, "want_plainly")
    return thing


def receive(w: World) -> None:
    """Somebody wants what the other has, and gets it."""
    hero, other = w.people
    w.own(hero, w.new_thing(hero))
    thing = _wish(w, hero)
    w.location[other] = w.new_place()
    w.own(other, thing, "has_one_briefly", place=w.location[other])
    w.go(hero, w.location[other])
    w.give(other, hero, thing)
    if w.chance(0.3):
        w.go(hero, w.new_place())


def mislay(w: World) -> None:
    """Somebody leaves a thing behind; the other may find it."""
    hero, other = w.people
    _wish(w, other)
    mine = w.new_thing(hero)
    w.own(hero, mine)
    w.go(hero, w.new_place())
    w.leave(hero, mine)
    if w.chance(0.5):
        w.go(hero, w.new_place())
    if w.chance(0.6):
        w.go(other, w.lying[mine])
        w.find(other, mine)


def swap(w: World) -> None:
    """Each has what the other wants."""
    hero, other = w.people
    mine = w.new_thing(hero)
    w.own(hero, mine)
    wished = _wish(w, hero)
    w.location[other] = w.new_place()
    w.own(other, wished, "has_one_briefly", place=w.location[other])
    w.go(hero, w.location[other])
    w.swap(hero, other, mine, wished)
    if w.chance(0.3):
        w.go(other, w.new_place())


def share(w: World) -> None:
    """Things are gathered and shared."""
    hero, other = w.people
    _wish(w, other)
    w.own(hero, w.new_thing(hero))
    w.pick_counted()
    w.go(hero, w.known_place(GATHERED[w.counted].place))
    w.gain(hero, w.amount(3, 9))
    w.share(hero, other, w.amount(1, w.counts[hero] - 1))
    if w.chance(0.3):
        w.go(hero, w.new_place())


BRIEF_PLOTS = {plot.__name__: plot for plot in (receive, mislay, swap, share)}
