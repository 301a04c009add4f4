"""Tales of errands, presents, picnics, prizes and harvests."""

from __future__ import annotations

from folio.data.tales.grammar import draw
from folio.data.tales.lexicon import EATEN, GATHERED
from folio.data.tales.world import Person, World


def errand(w: World) -> Person | None:
    """Somebody sends the hero with a thing; the road is longer than it looked."""
    hero, sender, receiver, guide = w.people[:4]
    w.present(hero, "helpful")
    thing = w.new_thing(receiver)
    w.location[sender] = w.location[hero] = w.new_place()
    goal = w.home_of(receiver)
    reason = w.pick("ill", "busy", "old")
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
        gift = w.new_gift(hero)
        w.own(receiver, gift, "own_silent")
        w.give(receiver, hero, gift, "reward")
    return None


def surprise(w: World) -> Person | None:
    """A birthday present is hidden; now and then somebody moves it."""
    hero, friend, mover = w.people[:3]
    w.present(hero, "playful")
    thing = w.new_gift(friend)
    w.want(friend, thing, "birthday", other=hero)
    w.own(hero, thing, "got_present", other=friend)
    w.go(hero, w.new_place())
    hiding_place = w.location[hero]
    w.leave(hero, thing, "hide")
    if w.chance(0.5):
        w.pause("soon")
        w.go(mover, hiding_place, "come_by")
        w.find(mover, thing, "discover")
        w.tell("whose", mover, thing=thing)
        w.go(mover, w.new_place(), "carry", thing=thing)
        w.leave(mover, thing, "put_away")
        w.pause("later")
        w.go(friend, hiding_place, "led", other=hero)
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


def picnic(w: World) -> Person | None:
    """Everyone brings something; one thing stays behind and is brought back."""
    hero, *guests = w.people
    w.present(hero, "helpful")
    place = w.new_place("green")
    for person in w.people:
        w.location[person] = place
    w.tell("invite", hero, place=place)
    brought = {}
    for guest in guests:
        brought[guest] = w.new_gift(guest)
        w.own(guest, brought[guest], "bring", place=place)
    w.tell("good_time", hero)
    if w.chance(0.65):
        forgetful = w.pick(*guests)
        thing = brought[forgetful]
        w.leave(forgetful, thing, "leave_at_picnic")
        w.pause("day")
        w.find(hero, thing, "find_again")
        del w.location[forgetful]
        w.go(hero, w.home_of(forgetful))
        w.give(hero, forgetful, thing, "give_back")
        w.tell("thank", forgetful, other=hero)
    else:
        giver, taker = draw(w.rng, guests, 2)
        w.tell("admire", taker, other=giver, thing=brought[giver])
        w.give(giver, taker, brought[giver])
        w.tell("thank", taker, other=giver)
    return None


def contest(w: World) -> Person | None:
    """A race with a prize; the winner may have a good heart."""
    hero = w.hero
    # grandparents judge races and don't run in them
    rival, judge = sorted(w.people[1:3], key=_is_grandparent)
    w.present(hero, "eager")
    prize = w.new_gift(hero)
    goal = w.new_place("green", "bare")
    w.location[judge] = goal
    w.own(judge, prize, "offer_prize", place=goal)
    w.tell("enter", hero, other=rival)
    winner, loser = (hero, rival) if w.chance(0.5) else (rival, hero)
    w.go(winner, goal, "win_race")
    w.go(loser, goal, "lose_race")
    w.give(judge, winner, prize)
    if w.chance(0.35):
        w.tell("disappointed", loser)
        w.give(winner, loser, prize, "give_up_prize")
        w.tell("thank", loser, other=winner)
        return None
    w.tell("congratulate", loser, other=winner)
    return None


def _is_grandparent(person: Person) -> bool:
    return (person.relation or "").startswith("grand")


def harvest(w: World) -> Person | None:
    """Things are gathered, shared and lost on the way."""
    hero, hungry, generous = w.people[:3]
    w.present(hero, "helpful")
    w.pick_counted()
    gathering = GATHERED[w.counted]
    w.tell("plan", hero, note=w.counted, text=gathering.plan)
    place = w.known_place(gathering.place)
    w.go(hero, place)
    w.gain(hero, w.amount(4, 9), "buy" if gathering.bought else "gain")
    luck = w.rng.random()
    helper = None
    if luck < 0.7:
        w.go(hungry, place, "arrive")
        w.tell("has_none", hungry, other=hero, note=w.counted)
        w.share(hero, hungry, w.amount(1, w.counts[hero] - 2))
        w.tell("thank", hungry, other=hero)
    if w.counts[hero] > 2 and w.chance(0.5):
        _lose_some(w)
    if luck > 0.5:
        w.go(generous, w.location[hero], "arrive")
        w.gain(hero, w.amount(1, 12 - w.counts[hero]), "given_more", other=generous)
        w.tell("thank", hero, other=generous)
        helper = generous
    w.tell("enough", hero, text=gathering.plan)
    return helper


def _lose_some(w: World) -> None:
    """Some are lost, sold or eaten, but never all."""
    hero = w.hero
    count = w.amount(1, w.counts[hero] - 2)
    way = w.pick("drop_some", "sell_some", *["eat_some"] * (w.counted in EATEN))
    if way == "sell_some" and w.location[hero].name != "market":
        w.go(hero, w.known_place("market"))
    else:
        w.go(hero, w.new_place())
    w.spend(hero, count, way)
