"""What is gathered, bought, counted and shared."""

from __future__ import annotations

from dataclasses import dataclass

from folio.data.tales.lexicon.words import words

_COUNTED = """
apple pear plum peach|peaches cherry|cherries lemon fig nut egg carrot onion
potato|potatoes tomato|tomatoes radish|radishes mushroom pumpkin bun roll cookie
candle ribbon nail flower rose tulip daisy|daisies
"""
PLURALS = dict(
    entry.split("|") if "|" in entry else (entry, entry + "s")
    for entry in _COUNTED.split()
)
COUNTED = tuple(PLURALS)
PLURALS["coin"] = "coins"  # money is counted too, but not gathered
# Where each is picked or bought, and what it is wanted for.
_GATHERED = """
apple orchard bake a pie
pear orchard make jam
plum orchard make jam
peach orchard bake a cake
cherry orchard bake a cake
lemon market make lemonade
fig market bake a cake
nut forest bake a cake
egg farm bake a cake
carrot garden cook soup
onion garden cook soup
potato field cook soup
tomato greenhouse cook soup
radish garden make a salad
mushroom forest cook soup
pumpkin field cook soup
bun bakery have tea with friends
roll bakery have tea with friends
cookie kitchen have tea with friends
candle church light up the whole house
ribbon fair tie up some presents
nail workshop mend the fence
flower meadow make a wreath
rose garden make a wreath
tulip greenhouse fill a jug
daisy meadow make a wreath
"""


@dataclass(frozen=True, slots=True)
class Gathering:
    """Where things are gathered, or bought, and what for."""

    place: str
    bought: bool
    plan: str


_SOLD_AT = frozenset(words("market bakery kitchen church fair workshop"))


def _gathering(line: str) -> tuple[str, Gathering]:
    noun, place, plan = line.split(maxsplit=2)
    return noun, Gathering(place, place in _SOLD_AT, plan)


GATHERED = dict(map(_gathering, _GATHERED.strip().splitlines()))
EATEN = frozenset(COUNTED) - {
    "candle", "ribbon", "nail", "flower", "rose", "tulip", "daisy",
    "potato", "onion", "mushroom", "pumpkin", "egg", "lemon",
}  # fmt: skip
