"""Plots of twenty to forty words for two people: the world of instructions.

Everything a question may ask is said once and plainly, so that a small model can
learn to read it. The events are those of `plots.py`, told with the same phrases.
"""

from __future__ import annotations

from folio.data.tales.grammar import choose
from folio.data.tales.plots import Plot
from folio.data.tales.world import Thing, World


def _wish(w: World, person) -> Thing:
    thing = w.new_thing(person)
    w.want(person, thing, use=choose(w.rng, thing.kind.uses))
    return thing


def get(w: World) -> None:
    """Somebody wants what the other has, and gets it."""
    hero, other = w.people
    thing = _wish(w, hero)
    w.own(hero, w.new_thing(hero))
    place = w.new_place()
    w.location[other] = place
    w.own(other, thing, "has_one", place=place)
    w.go(hero, place)
    w.give(other, hero, thing)
    if w.chance(0.5):
        w.go(hero, w.new_place())


def mislay(w: World) -> None:
    """Somebody leaves a thing behind; the other may find it."""
    hero, other = w.people
    mine = w.new_thing(hero)
    w.own(hero, mine)
    _wish(w, other)
    w.go(hero, w.new_place())
    w.leave(hero, mine, "leave")
    w.go(hero, w.new_place())
    if w.chance(0.6):
        w.go(other, w.lying[mine])
        w.find(other, mine)


def swap(w: World) -> None:
    """Each has what the other wants."""
    hero, other = w.people
    mine = w.new_thing(hero)
    w.own(hero, mine)
    wish = _wish(w, hero)
    place = w.new_place()
    w.own(other, wish, "has_one", place=place)
    w.location[other] = place
    w.go(hero, place)
    w.swap(hero, other, mine, wish)
    if w.chance(0.5):
        w.go(other, w.new_place())


def share(w: World) -> None:
    """Things are gathered and shared."""
    hero, other = w.people
    w.pick_counted()
    _wish(w, other)
    w.own(hero, w.new_thing(hero))
    w.go(hero, w.new_place())
    w.gain(hero, w.amount(3, 9))
    w.share(hero, other, w.amount(1, w.counts[hero] - 1))
    if w.chance(0.5):
        w.go(hero, w.new_place())


BRIEF_PLOTS: dict[str, Plot] = {plot.__name__: plot for plot in (get, mislay, swap, share)}
