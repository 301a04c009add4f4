"""The words of the tales: who lives in the world, where they go, what they own.

Tables are plain text, one entry to a line, so that they can be read and extended
without knowing any code. Everything is parsed once, on import.
"""

from folio.data.tales.lexicon.calendar import (
    ANIMALS,
    DAYS,
    MONTHS,
    NUMBERS,
    THIEVES,
    WEATHERS,
)
from folio.data.tales.lexicon.counted import COUNTED, EATEN, GATHERED, PLURALS
from folio.data.tales.lexicon.people import (
    BOYS,
    CHILD_RELATIONS,
    GIRLS,
    JOBS,
    RELATIONS,
    TRAITS,
)
from folio.data.tales.lexicon.places import PLACES, SPOTS, Place
from folio.data.tales.lexicon.scopes import FULL, SCOPES, SMALL, Scope
from folio.data.tales.lexicon.things import COLORS, KINDS, Kind, Use
from folio.data.tales.lexicon.words import words

__all__ = [
    "ANIMALS", "BOYS", "CHILD_RELATIONS", "COLORS", "COUNTED", "DAYS", "EATEN",
    "FULL", "GATHERED", "GIRLS", "JOBS", "KINDS", "MONTHS", "NUMBERS", "PLACES",
    "PLURALS", "RELATIONS", "SCOPES", "SMALL", "SPOTS", "THIEVES", "TRAITS",
    "WEATHERS", "Kind", "Place", "Scope", "Use", "words",
]  # fmt: skip
