"""Does a short tale hold together? What was said is replayed and compared."""

from __future__ import annotations

import random
import re

from folio.data.tales.lexicon import NUMBERS, SCOPES

SCOPE = SCOPES["small"]
NAMES = {*SCOPE.girls, *SCOPE.boys}
NUMBER = {word: value for value, word in enumerate(NUMBERS)}
TOKEN = re.compile(r"[A-Za-z]+")
GIVES = {"gave", "handed", "giving", "handing"}
LEAVES = {"left", "put", "forgot", "forgotten", "leaving", "putting", "forgetting"}
FINDS = {"found", "finding"}
TAKES = {"for", "got"}  # "gave the coin for the key", "gave the coin and got the key"
WEATHER = "The wind pulled at every hat."  # speaks of a thing that nobody has
GAINS = {"picked", "gathered", "collected", "got", "picking", "gathering"}
GAINS |= {"collecting", "getting", "gotten"}
SHARES = {"gave", "shared", "giving", "sharing"}


def faults(story: str) -> list[str]:
    """What doesn't fit, in words; nothing if the story holds.

    Two people; no more than two things, each with one look; nobody gives what
    another has, nor more than they have, nor finds a thing where it wasn't left.

    >>> faults("Ana had a red kite. Ben gave Ana the blue kite.")
    ['the kite is blue, red', 'Ben gives the kite, which Ana has']
    """
    story = story.replace(WEATHER[1:], "")
    return [*cast(story), *looks(story), *amounts(story), *deeds(story)]


def cast(story: str) -> list[str]:
    """Two people and no more than two things."""
    words = TOKEN.findall(story)
    people = {word for word in words if word in NAMES}
    things = {word for word in words if word in SCOPE.things}
    found = [] if len(people) == 2 else [f"{len(people)} people"]
    return found + ([] if 1 <= len(things) <= 2 else [f"{len(things)} things"])


def looks(story: str) -> list[str]:
    """Each thing has one look: a red kite stays red."""
    found = []
    for thing in SCOPE.things:
        seen = set(re.findall(rf"\b(?:an?|the) ([a-z]+) {thing}\b", story))
        if len(seen) > 1:
            found.append(f"the {thing} is {', '.join(sorted(seen))}")
    return found


def amounts(story: str) -> list[str]:
    """Nobody shares as many as they have gathered, or more, or something else."""
    words, had, kind, found = TOKEN.findall(story), None, "", []
    for i, word in enumerate(words[:-2]):
        after = words[i + 1 : i + 3]
        if word in GAINS and after[0] in NUMBER:
            had, kind = NUMBER[after[0]], after[1]
        elif word in SHARES:
            given = next((w for w in after if w in NUMBER), None)
            if given is None:
                continue
            if had is None or NUMBER[given] >= had:
                found.append(f"{given} of {had}")
            named = [w for w in words[i + 1 : i + 7] if w.rstrip("s") in SCOPE.counted]
            if named and named[0].rstrip("s") != kind.rstrip("s"):
                found.append(f"{kind} become {named[0]}")
    return found


def deeds(story: str) -> list[str]:
    """Givers have what they give; finders are where it was left."""
    has: dict[str, str] = {}  # thing -> person
    lies: dict[str, str] = {}  # thing -> place
    at: dict[str, str] = {}  # person -> place
    found, actor, place = [], "", ""
    for sentence in re.split(r"(?<=\.)\s+", story):
        words = TOKEN.findall(sentence)
        actor = actor_of(words, actor)
        deed = ""
        for i, word in enumerate(words):
            if word in TAKES and deed in GIVES:
                deed = "takes"
            elif word in GIVES | LEAVES | FINDS | {"had", "owned", "with"}:
                deed = word
                if (
                    word == "had"
                    and words[i + 1 : i + 2]
                    and words[i + 1]
                    in (LEAVES | {"made", "gone", "walked", "run", "hurried"})
                ):
                    deed = ""  # "when he had gone to"
            elif word in ("wanted", "needed", "wished"):
                deed = ""
            if word in SCOPE.places:
                place = at[actor] = word
                if deed in LEAVES:
                    lies |= {t: word for t, home in lies.items() if home == "?"}
            if word not in SCOPE.things:
                continue
            if deed in ("had", "owned", "with") and actor:
                has.setdefault(word, actor)
            elif deed in GIVES or deed == "takes":
                others = [w for w in words if w in NAMES and w != actor]
                giver, taker = actor, others[-1] if others else ""
                if deed == "takes":
                    giver, taker = taker, giver
                if giver and has.get(word, giver) != giver:
                    found.append(f"{giver} gives the {word}, which {has[word]} has")
                has[word] = taker
            elif deed in LEAVES:
                lies[word] = at.get(actor, place)
            elif deed in FINDS:
                if lies.get(word, place) != at.get(actor, place):
                    found.append(f"{actor} finds the {word} in another place")
                has[word] = actor
    return found


def actor_of(words: list[str], before: str) -> str:
    """Who acts: the first one named, unless "she" stands there instead."""
    named = [word for word in words if word in NAMES]
    if not named:
        return before
    first = words[1] if words[0] == "So" else words[0]
    if first.lower() in ("he", "she"):
        return before
    return named[0]


def spoiled(story: str, chance: random.Random) -> str:
    """The same story with one mention of a person, thing or number changed."""
    groups = [sorted(NAMES), list(SCOPE.things), list(SCOPE.places), list(NUMBER)[1:10]]
    places = [
        (match, group)
        for match in TOKEN.finditer(story)
        for group in groups
        if match.group() in group
    ]
    match, group = chance.choice(places)
    other = chance.choice([word for word in group if word != match.group()])
    return story[: match.start()] + other + story[match.end() :]
