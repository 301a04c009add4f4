"""Tales of things and people that are lost, taken, hidden, looked for and found."""

from __future__ import annotations

from folio.data.tales.grammar import choose
from folio.data.tales.lexicon import THIEVES
from folio.data.tales.world import Person, Thing, World

# -------------------------------------------------------------------------- lost


def lost(w: World) -> Person | None:
    """A treasure is left behind, missed, and comes back by one of several ways."""
    hero = w.hero
    w.present(hero, "careless")
    thing = w.new_thing(hero)
    w.own(hero, thing, "treasure")
    w.go(hero, w.new_place())
    w.leave(hero, thing, "forget")
    w.go(hero, w.new_place())
    w.tell("miss", hero, thing=thing)
    ways = (_go_back, _asked_around, _honest_finder, _handed_in, _comfort)
    return choose(w.rng, ways)(w, thing)


def _go_back(w: World, thing: Thing) -> Person | None:
    hero = w.hero
    w.tell("remember_place", hero, thing=thing, place=w.lying[thing])
    w.go(hero, w.lying[thing])
    w.find(hero, thing)
    w.tell("more_careful", hero, thing=thing)
    return None


def _asked_around(w: World, thing: Thing) -> Person | None:
    hero, witness = w.people[:2]
    w.go(witness, w.location[hero], "arrive")
    w.tell("ask_seen", hero, other=witness, thing=thing)
    w.tell("have_seen", witness, other=hero, thing=thing, place=w.lying[thing])
    if w.chance(0.5):
        w.tell("thank", hero, other=witness)
    w.go(hero, w.lying[thing])
    w.find(hero, thing)
    w.tell("more_careful", hero, thing=thing)
    return witness


def _honest_finder(w: World, thing: Thing) -> Person | None:
    hero, finder = w.people[:2]
    w.pause("soon")
    w.go(finder, w.lying[thing], "come_by")
    w.find(finder, thing, "discover")
    w.tell("recognize", finder, other=hero, thing=thing)
    w.go(finder, w.location[hero])
    w.give(finder, hero, thing, "give_back")
    w.tell("thank", hero, other=finder)
    if w.chance(0.4):
        gift = w.new_gift(finder)
        w.own(hero, gift, "own_silent")
        w.give(hero, finder, gift, "reward")
    return finder


def _handed_in(w: World, thing: Thing) -> Person | None:
    """The finder doesn't know the owner, and leaves the thing with somebody."""
    hero, finder, keeper = w.people[:3]
    w.pause("soon")
    w.go(finder, w.lying[thing], "come_by")
    w.find(finder, thing, "discover")
    w.tell("whose", finder, thing=thing)
    w.go(finder, w.home_of(keeper))
    w.give(finder, keeper, thing, "hand_in")
    w.pause("later")
    w.go(hero, w.location[keeper])
    w.tell("ask_seen", hero, other=keeper, thing=thing)
    w.tell("produce", keeper, other=hero, third=finder, thing=thing)
    w.give(keeper, hero, thing)
    w.tell("thank", hero, other=keeper)
    return keeper


def _comfort(w: World, thing: Thing) -> Person | None:
    """What is lost stays lost, but there is a friend."""
    hero, friend = w.people[:2]
    w.tell("search_in_vain", hero, thing=thing)
    w.go(friend, w.location[hero], "arrive")
    w.tell("ask_why_sad", friend, other=hero)
    w.tell("explain_loss", hero, other=friend, thing=thing)
    gift = w.new_gift(hero)
    w.own(friend, gift, "own_silent")
    w.give(friend, hero, gift, "comfort")
    return friend


# ------------------------------------------------------------------------- thieves


def thief(w: World) -> Person | None:
    """An animal or the wind carries a thing off to where somebody else may be."""
    hero, finder = w.people[:2]
    w.present(hero, "eager")
    thing = w.new_gift(hero)
    w.own(hero, thing, "treasure")
    w.go(hero, w.new_place("green", "bare"))
    nest = w.new_place("green", "bare")
    blown = w.weather == "windy" and thing.kind.family in ("wear", "book")
    animal = "wind" if blown else choose(w.rng, THIEVES)
    w.snatch(animal, hero, thing, nest)
    w.go(hero, nest, "chase_wind" if blown else "chase", thing=thing, note=animal)
    if w.chance(0.4):
        w.find(hero, thing)
        w.tell("hold_on" if blown else "scold", hero, thing=thing, note=animal)
        return None
    w.location[finder] = nest
    w.find(finder, thing, "caught")
    w.tell("ask_seen", hero, other=finder, thing=thing)
    w.tell("saw_wind" if blown else "saw_thief", finder, note=animal)
    w.give(finder, hero, thing)
    w.tell("thank", hero, other=finder)
    return finder


# --------------------------------------------------------------------------- found


def found(w: World) -> Person | None:
    """The hero finds a thing and looks for its owner."""
    hero, owner, guide = w.people[:3]
    w.present(hero, "honest")
    thing = w.new_gift(owner)
    w.go(hero, w.new_place())
    w.lying[thing] = w.location[hero]
    w.find(hero, thing, "stumble")
    w.tell("whose", hero, thing=thing)
    w.go(guide, w.location[hero], "arrive")
    w.tell("is_it_yours", hero, other=guide, thing=thing)
    w.tell("point_to", guide, other=hero, third=owner, place=w.home_of(owner))
    w.go(hero, w.location[owner])
    w.tell("is_it_yours", hero, other=owner, thing=thing)
    w.tell("it_is_mine", owner, thing=thing)
    w.give(hero, owner, thing, "give_back")
    w.tell("thank", owner, other=hero)
    if w.chance(0.5):
        gift = w.new_gift(hero)
        w.own(owner, gift, "own_silent")
        w.give(owner, hero, gift, "reward")
    return None


# ---------------------------------------------------------------------------- seek


def seek(w: World) -> Person | None:
    """Hide-and-seek: two hide, one looks."""
    hero, first, second = w.people[:3]
    w.present(hero, "playful")
    start = w.new_place("green", "bare")
    w.location[hero] = start
    w.tell("begin_seek", hero, other=first, third=second, place=start)
    spots = [w.new_place(), w.new_place()]
    w.go(first, spots[0], "hide_self")
    w.go(second, spots[1], "hide_self")
    if w.chance(0.6):
        w.go(hero, w.new_place())
        w.tell("nobody", hero)
    order = [first, second] if w.chance(0.5) else [second, first]
    for person in order:
        w.go(hero, w.location[person])
        w.tell("find_person", hero, other=person, place=w.location[person])
    w.tell("end_seek", hero, other=order[0], third=order[1])
    return None


# --------------------------------------------------------------------------- repay


def repay(w: World, helper: Person) -> None:
    """Later the hero can do the helper a good turn."""
    hero = w.hero
    thing = w.new_gift(helper)
    spot = w.new_place()
    w.lying[thing] = spot
    w.pause("week")
    w.location.pop(helper, None)  # a visit, even if they parted here
    w.go(helper, w.location[hero], "visit", other=hero)
    w.tell("mislaid", helper, other=hero, thing=thing, place=spot)
    w.tell("remember_kindness", hero, other=helper)
    home = w.location[hero]
    w.go(hero, spot)
    w.find(hero, thing)
    w.go(hero, home)
    w.give(hero, helper, thing, "give_back")
    w.tell("even", helper, other=hero)
