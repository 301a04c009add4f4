"""Who lives in the world: names, relations, trades, traits."""

from __future__ import annotations

from folio.data.tales.lexicon.words import words

GIRLS = words(
    """Mara Ana Ella Ivy Rosa Nora Lina Greta Tilda Vera Hana Jun Mina Olga Petra Sara
    Wanda Yara Zoe Clara Edith Freya Amina Lucy Bella Dora Hazel Iris Kira Luna"""
)
BOYS = words(
    """Tom Ben Otto Karl Leo Max Finn Hugo Ivan Jack Noah Omar Paul Rafi Sam Theo Umar
    Viktor Walt Adam Bruno Cyril David Emil Felix George Henry Igor Jonas Kai"""
)
RELATIONS = {
    True: ("friend", "sister", "cousin", "neighbor", "aunt", "grandmother"),
    False: ("friend", "brother", "cousin", "neighbor", "uncle", "grandfather"),
}
CHILD_RELATIONS = ("friend", "cousin", "neighbor")

# Where each trade is found at work: nobody meets a sailor in the bakery's attic.
_JOBS = """
baker bakery          | farmer farm           | miller mill         | teacher school
doctor hospital       | nurse hospital        | sailor harbor       | captain harbor
gardener garden       | shepherd meadow       | carpenter workshop  | potter workshop
fisher lake           | cook inn              | tailor shop         | butcher shop
librarian library     | hunter forest         | singer theater      | beekeeper orchard
guard castle          | clerk station         | driver station      | painter tower
weaver mill           | mason bridge          | barber square       | smith stable
"""
JOBS = dict(
    entry.split() for entry in _JOBS.replace("\n", "|").split("|") if entry.strip()
)

TRAITS = {
    "careless": ("careless", "dreamy", "forgetful", "sleepy", "busy"),
    "honest": ("honest", "kind", "careful", "wise", "gentle"),
    "eager": ("curious", "clever", "cheerful", "brave", "stubborn", "lively"),
    "helpful": ("helpful", "kind", "patient", "polite", "generous", "friendly"),
    "playful": ("clever", "noisy", "cheerful", "lively", "funny"),
}
