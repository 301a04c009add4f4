"""Stories that several tests read, and their state worked out again from the events.

`replay` is written apart from `world.py` on purpose: it knows only what each kind of
event means.
"""

import pytest

from folio.data.tales import story
from folio.data.tales.splits import generator


def words(text):
    return frozenset(text.split())


GIVING = words(
    """
    give lend give_back give_after_all give_up_prize entrust deliver hand_in
    sell keep_word reward comfort
    """
)
OWNING = words(
    """
    own own_silent treasure has_one has_one_briefly send got_present sells bring
    offer_prize
    """
)
LEAVING = words(
    """
    leave forget hide put_away leave_at_picnic
    """
)
FINDING = words(
    """
    find find_again discover stumble caught
    """
)
MOVING = words(
    """
    go go_back carry come_by come_after chase chase_wind rest sit_alone led
    hide_self win_race lose_race arrive visit
    """
)
WANTING = {"want", "want_plainly", "condition", "rather", "birthday"}
SPENDING = {"drop_some", "sell_some", "eat_some", "pay"}


def _replay(events):
    """Who holds what, what lies where, who is where, who has how many, who wants what.

    Names and nouns, not objects: `holders[thing]` is the history of its owners.
    """
    holder, holders, lying, place, counts, wants, gave = {}, {}, {}, {}, {}, {}, {}

    def hold(person, thing):
        holder[thing] = person
        lying.pop(thing, None)
        holders.setdefault(thing, []).append(person)

    def pass_on(giver, taker, thing):
        hold(taker, thing)
        gave.setdefault((thing, taker), []).append(giver)

    for event in events:
        kind = event.kind
        actor = event.actor and event.actor.name
        other = event.other and event.other.name
        thing = event.thing and event.thing.noun
        where = event.place and event.place.the
        if kind in OWNING:
            assert thing not in holder, f"{thing} already has an owner"
            hold(actor, thing)
        if kind in WANTING:
            wants.setdefault(actor, []).append(thing)
        if kind in MOVING:
            place[actor] = where
        if kind in GIVING:
            assert holder[thing] == actor, f"{actor} gives {thing} without having it"
            pass_on(actor, other, thing)
        if kind in LEAVING:
            assert holder.pop(thing) == actor
            lying[thing] = where
        if kind in FINDING:
            assert lying.get(thing, where) == where
            hold(actor, thing)
        if kind in ("snatch", "blow"):
            assert holder.pop(thing) == actor
            lying[thing] = where
        if kind == "swap":
            second = event.second.noun
            assert holder[thing] == actor
            assert holder[second] == other
            pass_on(actor, other, thing)
            pass_on(other, actor, second)
        if kind in ("gain", "buy", "paid", "given_more"):
            counts[actor] = counts.get(actor, 0) + event.count
        if kind == "share":
            counts[actor] -= event.count
            counts[other] = counts.get(other, 0) + event.count
        if kind in SPENDING:
            counts[actor] -= event.count
            assert counts[actor] >= 0
    return holder, holders, lying, place, counts, wants, gave


@pytest.fixture(scope="session")
def replay():
    return _replay


@pytest.fixture(scope="session")
def long_stories():
    return [story(generator("tests", i), "train", "full") for i in range(800)]


@pytest.fixture(scope="session")
def brief_stories():
    return [story(generator("brief", i), "train", "small") for i in range(500)]


@pytest.fixture(scope="session")
def stories(long_stories, brief_stories):
    return long_stories + brief_stories
