"""Plots: what happens, and why.

Each plot is a chain of causes: a wish leads to a request, a refusal to a search
elsewhere, a find to a return, a kindness to gratitude. A plot acts on the world and
returns whoever helped the hero, so that a later episode can pay the debt.
"""

from __future__ import annotations

from collections.abc import Callable

from folio.data.tales.grammar import choose
from folio.data.tales.lexicon import EATEN, GATHERED, JOBS, THIEVES
from folio.data.tales.world import Person, Thing, World

Plot = Callable[[World], Person | None]


def _put_to_use(w: World, person: Person, thing: Thing) -> None:
    """Go where the thing is useful and use it as was wished."""
    use = w.purpose[thing]
    w.go(person, w.place_for(use))
    w.tell("use", person, thing=thing, use=use, place=w.location[person])


def _wish(w: World, person: Person) -> Thing:
    """Somebody wants a thing for a purpose."""
    thing = w.new_thing(person)
    use = choose(w.rng, thing.kind.uses)
    w.purpose[thing] = use
    w.want(person, thing, use=use)
    return thing


def _treasure(w: World, person: Person) -> Thing:
    """Somebody has a thing and is fond of it."""
    thing = w.new_thing(person)
    w.own(person, thing, "treasure")
    return thing


# ------------------------------------------------------------------------ borrow


def borrow(w: World) -> Person | None:
    """A wish, and somebody who has what is wished for."""
    hero, owner = w.people[:2]
    w.trait(hero, "eager")
    w.tell("hero", hero)
    thing = _wish(w, hero)
    home = w.home_of(owner)
    w.own(owner, thing, "has_one", place=home)
    w.go(hero, home)
    w.tell("ask_loan", hero, other=owner, thing=thing)
    if w.chance(0.6):
        return _lent(w, thing)
    w.tell("refuse", owner, other=hero, thing=thing)
    w.tell("sad_refused", hero)
    return choose(w.rng, (_condition, _second_thoughts, _earned_by_help))(w, thing)


def _lent(w: World, thing: Thing) -> Person | None:
    hero, owner, passer = w.people[:3]
    home = w.location[owner]
    w.tell("agree_loan", owner, other=hero, thing=thing)
    w.give(owner, hero, thing, "lend")
    _put_to_use(w, hero, thing)
    field = w.location[hero]
    luck = w.rng.random()
    if field is home or luck < 0.4:
        w.pause("evening")
        w.go(hero, home)
        w.give(hero, owner, thing, "give_back")
        w.tell("thank", hero, other=owner)
        return owner
    if luck < 0.6:
        w.pause("evening")
        w.go(hero, home)
        w.tell("offer_back", hero, other=owner, thing=thing)
        w.tell("keep_it", owner, other=hero, thing=thing)
        return owner
    w.leave(hero, thing, "forget")
    w.go(hero, home)
    w.tell("ask_where", owner, other=hero, thing=thing)
    w.tell("ashamed", hero, thing=thing, place=field)
    if luck < 0.8:
        w.go(hero, field)
        w.find(hero, thing)
        w.go(hero, home)
        w.give(hero, owner, thing, "give_back")
        w.tell("forgive", owner, other=hero)
        return None
    w.go(passer, field, "come_by")
    w.find(passer, thing, "discover")
    w.tell("recognize", passer, other=owner, thing=thing)
    w.go(passer, home)
    w.give(passer, owner, thing, "give_back")
    w.tell("relief", hero, other=passer)
    return passer


def _condition(w: World, thing: Thing) -> Person | None:
    """The owner wants something else in return, and a third person has it."""
    hero, owner, third = w.people[:3]
    home = w.location[owner]
    price = w.new_thing(owner)
    w.want(owner, price, "condition", other=hero, second=thing)
    w.own(third, price, "has_one", place=w.home_of(third))
    w.go(hero, w.location[third])
    w.tell("ask_gift", hero, other=third, thing=price, third=owner)
    w.tell("agree", third, other=hero)
    w.give(third, hero, price)
    w.tell("thank", hero, other=third)
    w.go(hero, home)
    w.give(hero, owner, price)
    w.give(owner, hero, thing, "keep_word")
    _put_to_use(w, hero, thing)
    return third


def _second_thoughts(w: World, thing: Thing) -> Person | None:
    hero, owner = w.people[:2]
    w.go(hero, w.new_place(), "sit_alone")
    w.tell("regret", owner, other=hero)
    w.go(owner, w.location[hero])
    w.give(owner, hero, thing, "give_after_all")
    w.tell("thank", hero, other=owner)
    _put_to_use(w, hero, thing)
    return owner


def _earned_by_help(w: World, thing: Thing) -> Person | None:
    hero, owner = w.people[:2]
    w.pause("day")
    w.tell("in_trouble", owner, other=hero, note=choose(w.rng, CHORES))
    w.tell("help", hero, other=owner)
    w.give(owner, hero, thing, "reward")
    _put_to_use(w, hero, thing)
    return None


CHORES = (
    "*carry the heavy bags", "*wash the windows", "*feed the hens",
    "*move a big table", "*chop the onions", "*catch a runaway goat",
    "*pick up the apples", "*clean the stairs", "*water the flowers",
    "*push a cart up the road", "*fold the sheets", "*peel the potatoes",
)  # fmt: skip

# -------------------------------------------------------------------------- lost


def lost(w: World) -> Person | None:
    """A treasure is left behind, missed, and comes back by one of several ways."""
    hero = w.hero
    w.trait(hero, "careless")
    w.tell("hero", hero)
    thing = _treasure(w, hero)
    w.go(hero, w.new_place())
    w.leave(hero, thing, "forget")
    w.go(hero, w.new_place())
    w.tell("miss", hero, thing=thing)
    endings = (_go_back, _asked_around, _honest_finder, _handed_in, _comfort)
    return choose(w.rng, endings)(w, thing)


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
    w.go(hero, w.lying[thing])
    w.find(hero, thing)
    w.tell("more_careful", hero, thing=thing)
    return witness


def _honest_finder(w: World, thing: Thing) -> Person | None:
    hero, finder = w.people[:2]
    w.trait(finder, "honest")
    w.go(finder, w.lying[thing], "come_by")
    w.find(finder, thing, "discover")
    w.tell("recognize", finder, other=hero, thing=thing)
    w.go(finder, w.location[hero])
    w.give(finder, hero, thing, "give_back")
    w.tell("thank", hero, other=finder)
    if w.chance(0.4):
        gift = w.new_thing(finder)
        w.own(hero, gift, "own_silent")
        w.give(hero, finder, gift, "reward")
    return finder


def _handed_in(w: World, thing: Thing) -> Person | None:
    hero, finder, keeper = w.people[:3]
    w.go(finder, w.lying[thing], "come_by")
    w.find(finder, thing, "discover")
    w.tell("whose", finder, thing=thing)
    w.go(finder, w.home_of(keeper))
    w.give(finder, keeper, thing, "hand_in")
    w.pause("later")
    w.go(hero, w.location[keeper])
    w.tell("ask_seen", hero, other=keeper, thing=thing)
    w.give(keeper, hero, thing, "produce", third=finder)
    w.tell("thank", hero, other=keeper)
    return keeper


def _comfort(w: World, thing: Thing) -> Person | None:
    hero, friend = w.people[:2]
    w.tell("search_in_vain", hero, thing=thing)
    w.go(friend, w.location[hero], "arrive")
    w.tell("ask_why_sad", friend, other=hero)
    w.tell("explain_loss", hero, other=friend, thing=thing)
    gift = w.new_thing(hero)
    w.own(friend, gift, "own_silent")
    w.give(friend, hero, gift, "comfort")
    return friend


# ------------------------------------------------------------------------ trading


def trade(w: World) -> Person | None:
    """One swap, or two in a row when the owner wants something else."""
    hero, owner, third = w.people[:3]
    w.trait(hero, "eager")
    w.tell("hero", hero)
    mine = w.new_thing(hero)
    w.own(hero, mine)
    wish = _wish(w, hero)
    home = w.home_of(owner)
    w.own(owner, wish, "has_one", place=home)
    w.go(hero, home)
    w.tell("offer_swap", hero, other=owner, thing=mine, second=wish)
    if w.chance(0.45):
        w.tell("agree", owner, other=hero)
        w.swap(hero, owner, mine, wish)
        _put_to_use(w, hero, wish)
        return None
    price = w.new_thing(owner)
    w.want(owner, price, "rather", other=hero, second=mine)
    w.own(third, price, "has_one", place=w.home_of(third))
    w.go(hero, w.location[third])
    w.tell("offer_swap", hero, other=third, thing=mine, second=price)
    w.tell("agree", third, other=hero)
    w.swap(hero, third, mine, price)
    w.go(hero, home)
    w.swap(hero, owner, price, wish)
    _put_to_use(w, hero, wish)
    return None


# ------------------------------------------------------------------------- errand


def errand(w: World) -> Person | None:
    """Somebody sends the hero with a thing; the road is longer than it looked."""
    hero, sender, receiver, guide = w.people[:4]
    w.trait(hero, "helpful")
    w.tell("hero", hero)
    thing = w.new_thing(receiver)
    w.location[sender] = w.location[hero] = w.new_place()
    goal = w.home_of(receiver)
    reason = choose(w.rng, ("ill", "busy", "old"))
    w.own(sender, thing, "send", other=hero, third=receiver, place=goal, note=reason)
    w.give(sender, hero, thing, "entrust")
    luck = w.rng.random()
    if luck < 0.35:
        w.go(hero, w.new_place(), "rest")
        w.leave(hero, thing, "forget")
        halt = w.location[hero]
        w.go(hero, goal)
        w.tell("ask_where", receiver, other=hero, thing=thing)
        w.tell("ashamed", hero, thing=thing, place=halt)
        w.go(hero, halt)
        w.find(hero, thing)
        w.go(hero, goal)
    elif luck < 0.65:
        w.go(hero, goal)
        w.tell("not_there", receiver, other=hero)
        elsewhere = w.new_place()
        w.location[receiver] = elsewhere
        w.tell("redirect", guide, other=hero, third=receiver, place=elsewhere)
        w.go(hero, elsewhere)
    else:
        w.go(hero, goal)
    w.give(hero, receiver, thing, "deliver")
    w.tell("thank", receiver, other=hero)
    if w.chance(0.5):
        gift = w.new_thing(hero)
        w.own(receiver, gift, "own_silent")
        w.give(receiver, hero, gift, "reward")
    return None


# ----------------------------------------------------------------------- surprise


def surprise(w: World) -> Person | None:
    """A birthday present is hidden; now and then somebody moves it."""
    hero, friend, mover = w.people[:3]
    w.trait(hero, "playful")
    w.tell("hero", hero)
    thing = w.new_thing(friend)
    w.want(friend, thing, "birthday", other=hero)
    w.own(hero, thing, "got_present", other=friend)
    w.go(hero, w.new_place())
    hiding_place = w.location[hero]
    w.leave(hero, thing, "hide")
    if w.chance(0.5):
        w.go(mover, hiding_place, "come_by")
        w.find(mover, thing, "discover")
        w.tell("whose", mover, thing=thing)
        w.go(mover, w.new_place())
        w.leave(mover, thing, "put_away")
        w.pause("later")
        w.tell("call_friend", hero, other=friend, place=hiding_place)
        w.location[friend] = hiding_place
        w.tell("empty", friend, other=hero, thing=thing)
        w.go(mover, hiding_place, "arrive")
        w.tell("explain_move", mover, thing=thing, place=w.lying[thing])
        w.go(friend, w.lying[thing])
    else:
        w.pause("later")
        w.tell("hint", hero, other=friend, place=hiding_place)
        w.go(friend, hiding_place)
    w.find(friend, thing)
    w.tell("thank", friend, other=hero)
    return None


# -------------------------------------------------------------------------- thief


def thief(w: World) -> Person | None:
    """An animal runs off with a thing and drops it where somebody else is."""
    hero, finder = w.people[:2]
    w.trait(hero, "eager")
    w.tell("hero", hero)
    thing = w.new_thing(hero, families="gem wear book toy music")
    w.own(hero, thing, "treasure")
    w.go(hero, w.new_place(indoors=False))
    animal = choose(w.rng, THIEVES)
    nest = w.new_place(indoors=False)
    w.snatch(animal, hero, thing, nest)
    w.go(hero, nest, "chase", note=animal)
    if w.chance(0.5):
        w.find(hero, thing)
        w.tell("scold", hero, note=animal, thing=thing)
        return None
    w.location[finder] = nest
    w.find(finder, thing, "caught")
    w.tell("ask_seen", hero, other=finder, thing=thing)
    w.give(finder, hero, thing, "produce_thief", note=animal)
    w.tell("thank", hero, other=finder)
    return finder


# -------------------------------------------------------------------------- found


def found(w: World) -> Person | None:
    """The hero finds a thing and looks for its owner."""
    hero, owner, guide = w.people[:3]
    w.trait(hero, "honest")
    w.tell("hero", hero)
    thing = w.new_thing(owner)
    w.go(hero, w.new_place())
    w.lying[thing] = w.location[hero]
    w.find(hero, thing, "stumble")
    w.tell("whose", hero, thing=thing)
    if w.chance(0.6):
        w.go(guide, w.location[hero], "arrive")
        w.tell("is_it_yours", hero, other=guide, thing=thing)
        w.tell("point_to", guide, other=hero, third=owner, place=w.home_of(owner))
    else:
        w.tell("notice", hero, third=owner, thing=thing, place=w.home_of(owner))
    w.go(hero, w.location[owner])
    w.tell("is_it_yours", hero, other=owner, thing=thing)
    w.tell("it_is_mine", owner, thing=thing)
    w.give(hero, owner, thing, "give_back")
    w.tell("thank", owner, other=hero)
    if w.chance(0.5):
        gift = w.new_thing(hero)
        w.own(owner, gift, "own_silent")
        w.give(owner, hero, gift, "reward")
    return None


# ------------------------------------------------------------------------ counting


def harvest(w: World) -> Person | None:
    """Things are gathered, shared and lost on the way."""
    hero, hungry, generous = w.people[:3]
    w.trait(hero, "helpful")
    w.tell("hero", hero)
    w.pick_counted()
    place = w.known_place(GATHERED[w.counted])
    w.go(hero, place)
    w.gain(hero, w.amount(4, 9))
    if w.chance(0.7):
        w.go(hungry, place, "arrive")
        w.tell("has_none", hungry, other=hero, note=w.counted)
        w.share(hero, hungry, w.amount(1, w.counts[hero] - 2))
    if w.counts[hero] > 2 and w.chance(0.6):
        count = w.amount(1, w.counts[hero] - 2)
        kinds = ["drop_some", "sell_some"] + ["eat_some"] * (w.counted in EATEN)
        w.go(hero, w.new_place())
        w.spend(hero, count, choose(w.rng, kinds))
    if w.chance(0.5):
        w.go(generous, w.location[hero], "arrive")
        w.gain(hero, w.amount(1, 12 - w.counts[hero]), "given_more", other=generous)
        w.tell("thank", hero, other=generous)
    return None


def earn(w: World) -> Person | None:
    """What the hero wants costs money, so there is work to do first."""
    hero, seller, boss = w.people[:3]
    w.trait(hero, "eager")
    w.tell("hero", hero)
    thing = _wish(w, hero)
    w.counted = "coin"
    price = w.amount(2, 6)
    stall = w.known_place(choose(w.rng, ("market", "fair")))
    w.location[seller] = stall
    w.own(seller, thing, "sells", place=stall)
    w.go(hero, stall)
    w.tell(
        "price", seller, other=hero, thing=thing, count=price, note=w.counted
    )
    w.tell("no_money", hero)
    w.go(hero, w.home_of(boss))
    w.tell("work", hero, other=boss, note=choose(w.rng, CHORES))
    w.gain(hero, price + w.amount(0, 3), "paid", other=boss)
    w.go(hero, stall)
    w.spend(hero, price, "pay", other=seller)
    w.give(seller, hero, thing, "sell")
    _put_to_use(w, hero, thing)
    return None


# ------------------------------------------------------------------------- repay


def repay(w: World, helper: Person) -> None:
    """Later the hero can do the helper a good turn."""
    hero = w.hero
    thing = w.new_thing(helper)
    spot = w.new_place()
    w.lying[thing] = spot
    w.pause("week")
    w.tell("mislaid", helper, other=hero, thing=thing)
    w.tell("remember_kindness", hero, other=helper)
    w.go(hero, spot)
    w.find(hero, thing)
    w.go(hero, w.location.get(helper) or w.home_of(helper))
    w.give(hero, helper, thing, "give_back")
    w.tell("even", helper, other=hero)


PLOTS: dict[str, Plot] = {
    plot.__name__: plot
    for plot in (
        borrow, borrow, lost, lost, trade, errand, surprise, thief, found, harvest, earn,
    )
}  # fmt: skip
