"""Tales of wishes: somebody wants a thing for a purpose, and has to get it."""

from __future__ import annotations

from folio.data.tales.grammar import choose
from folio.data.tales.world import Person, Thing, World

CHORES = (
    "*carry the heavy bags",
    "*wash the windows",
    "*feed the hens",
    "*move a big table",
    "*chop the onions",
    "*catch a runaway goat",
    "*pick up the apples",
    "*clean the stairs",
    "*water the flowers",
    "*push a cart up the road",
    "*fold the sheets",
    "*peel the potatoes",
)


def wish(w: World, person: Person) -> Thing:
    """Somebody wants a thing that suits them, for one of its uses."""
    thing = w.new_thing(person)
    w.purpose[thing] = choose(w.rng, thing.kind.uses)
    w.want(person, thing, use=w.purpose[thing])
    return thing


def put_to_use(w: World, person: Person, thing: Thing) -> None:
    """Go where the thing is useful and do with it what was wished."""
    use = w.purpose[thing]
    w.go(person, w.place_for(use), w.pick("go", "carry"), thing=thing)
    w.tell("use", person, thing=thing, use=use, place=w.location[person])
    if w.chance(0.35):
        w.tell("content", person)


# ------------------------------------------------------------------------ borrow


def borrow(w: World) -> Person | None:
    """A wish, and somebody who has what is wished for."""
    hero, owner = w.people[:2]
    w.present(hero, "eager")
    thing = wish(w, hero)
    home = w.home_of(owner)
    w.own(owner, thing, "has_one", place=home)
    w.go(hero, home)
    w.tell("ask_loan", hero, other=owner, thing=thing)
    if w.chance(0.6):
        return _lent(w, thing)
    w.tell("refuse", owner, other=hero, thing=thing)
    return w.pick(_condition, _second_thoughts, _earned_by_help)(w, thing)


def _lent(w: World, thing: Thing) -> Person | None:
    """What is lent is to be brought back: it is, or it may be kept, or it is lost."""
    hero, owner = w.people[:2]
    home = w.location[owner]
    w.tell("agree_loan", owner, other=hero, thing=thing)
    w.give(owner, hero, thing, "lend")
    put_to_use(w, hero, thing)
    luck = w.rng.random()
    if w.location[hero] is home or luck < 0.6:
        w.pause("evening")
        w.go(hero, home)
        if luck < 0.2:
            w.tell("offer_back", hero, other=owner, thing=thing)
            w.tell("keep_it", owner, other=hero, thing=thing)
        else:
            w.give(hero, owner, thing, "give_back")
            w.tell("thank", hero, other=owner)
        return owner
    return _left_behind(w, thing, home, found_by_other=luck > 0.8)


def _left_behind(
    w: World, thing: Thing, home, *, found_by_other: bool
) -> Person | None:
    hero, owner, passer = w.people[:3]
    field = w.location[hero]
    w.leave(hero, thing, "forget")
    w.go(hero, home)
    w.tell("ask_where", owner, other=hero, thing=thing)
    w.tell("ashamed", hero, thing=thing, place=field)
    if found_by_other:
        w.pause("soon")
        w.go(passer, field, "come_by")
        w.find(passer, thing, "discover")
        w.tell("recognize", passer, other=owner, thing=thing)
        w.go(passer, home, "carry", thing=thing)
        w.give(passer, owner, thing, "give_back")
        w.tell("relief", hero, other=passer)
        return passer
    w.go(hero, field)
    w.find(hero, thing)
    w.go(hero, home)
    w.give(hero, owner, thing, "give_back")
    w.tell("forgive", owner, other=hero)
    return None


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
    put_to_use(w, hero, thing)
    return third


def _second_thoughts(w: World, thing: Thing) -> Person | None:
    """The owner is sorry to have said no."""
    hero, owner = w.people[:2]
    w.tell("sad_refused", hero)
    w.go(hero, w.new_place(), "sit_alone")
    w.tell("regret", owner, other=hero)
    w.go(owner, w.location[hero], "come_after", other=hero)
    w.give(owner, hero, thing, "give_after_all")
    w.tell("thank", hero, other=owner)
    put_to_use(w, hero, thing)
    return owner


def _earned_by_help(w: World, thing: Thing) -> Person | None:
    """Help given without being asked is rewarded."""
    hero, owner = w.people[:2]
    w.tell("sad_refused", hero)
    w.pause("day")
    w.tell("in_trouble", owner, other=hero, note=choose(w.rng, CHORES))
    w.tell("help", hero, other=owner)
    w.give(owner, hero, thing, "reward")
    put_to_use(w, hero, thing)
    return None


# ------------------------------------------------------------------- trade and earn


def trade(w: World) -> Person | None:
    """One swap, or two in a row when the owner wants something else."""
    hero, owner, third = w.people[:3]
    w.present(hero, "eager")
    mine = w.new_thing(hero)
    w.own(hero, mine)
    wished = wish(w, hero)
    home = w.home_of(owner)
    w.own(owner, wished, "has_one", place=home)
    w.go(hero, home)
    w.tell("offer_swap", hero, other=owner, thing=mine, second=wished)
    if w.chance(0.4):
        w.tell("agree", owner, other=hero)
        w.swap(hero, owner, mine, wished)
        put_to_use(w, hero, wished)
        return None
    price = w.new_thing(owner)
    w.want(owner, price, "rather", other=hero, second=mine)
    w.own(third, price, "has_one", place=w.home_of(third))
    w.go(hero, w.location[third])
    w.tell("offer_swap", hero, other=third, thing=mine, second=price)
    w.tell("agree", third, other=hero)
    w.swap(hero, third, mine, price)
    w.go(hero, home)
    w.swap(hero, owner, price, wished)
    put_to_use(w, hero, wished)
    return None


def earn(w: World) -> Person | None:
    """What the hero wants costs money, so there is work to do first."""
    hero, seller, boss = w.people[:3]
    w.present(hero, "eager")
    thing = wish(w, hero)
    w.counted = "coin"
    price = w.amount(2, 6)
    stall = w.known_place(w.pick("market", "fair"))
    w.location[seller] = stall
    w.own(seller, thing, "sells", place=stall)
    w.go(hero, stall)
    w.tell("ask_price", hero, other=seller, thing=thing)
    w.tell("price", seller, other=hero, thing=thing, count=price, note=w.counted)
    w.tell("no_money", hero)
    w.go(hero, w.home_of(boss))
    w.tell("work", hero, other=boss, note=choose(w.rng, CHORES))
    w.gain(hero, price + w.amount(0, 3), "paid", other=boss)
    w.go(hero, stall)
    w.spend(hero, price, "pay", other=seller)
    w.give(seller, hero, thing, "sell")
    put_to_use(w, hero, thing)
    return None
