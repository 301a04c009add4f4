"""Which of the words a world may draw on: all of them, or few of each."""

from __future__ import annotations

from dataclasses import dataclass

from folio.data.tales.lexicon.counted import COUNTED
from folio.data.tales.lexicon.people import BOYS, GIRLS
from folio.data.tales.lexicon.places import PLACES
from folio.data.tales.lexicon.things import KINDS
from folio.data.tales.lexicon.words import words


@dataclass(frozen=True, slots=True)
class Scope:
    """Which words a world may draw on: the full lists, or few of each."""

    girls: tuple[str, ...]
    boys: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    counted: tuple[str, ...]


FULL = Scope(GIRLS, BOYS, tuple(PLACES), tuple(KINDS), COUNTED)
# Fourteen names, twenty places: small enough that a 0.5 M-parameter model meets each
# name thousands of times, which is what copying needs to form.
SMALL = Scope(
    girls=GIRLS[:7],
    boys=BOYS[:7],
    places=words(
        """garden forest meadow orchard park field market harbor station farm beach pond
        river lake hill bridge kitchen barn school library"""
    ),
    things=words(
        """kite ball drum doll hammer rope lantern bucket basket ladder scarf hat coat
        book map newspaper flute bell pot spoon cup coin ring key shell feather"""
    ),
    counted=words("apple pear plum nut egg carrot cookie flower"),
)
SCOPES = {"full": FULL, "small": SMALL}
