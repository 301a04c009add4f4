"""Days, months, weather, numbers and animals."""

from __future__ import annotations

from folio.data.tales.lexicon.words import words

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words(
    """January February March April May June July August September October November
    December"""
)
WEATHERS = {
    "sunny": (
        "the sun was shining", "the sky was blue and clear", "it was bright and warm",
        "the sun stood high in the sky",
    ),
    "rainy": (
        "it was raining hard", "rain fell on the roofs", "it was raining softly",
        "the streets were wet with rain",
    ),
    "windy": (
        "a strong wind blew from the sea", "the wind shook the trees",
        "a cold wind blew from the north", "the wind pulled at every hat",
    ),
    "snowy": (
        "snow covered the fields", "it was snowing softly",
        "the world was white with snow", "fresh snow lay on the roofs",
    ),
    "foggy": (
        "thick fog hung over the valley", "gray fog hid the houses",
        "nobody could see the church through the fog", "the fog was thick",
    ),
    "stormy": (
        "thunder rolled over the hills", "a storm was coming",
        "dark clouds and lightning filled the sky", "the storm shook the windows",
    ),
}  # fmt: skip
ANIMALS = words(
    """dog cat goat horse cow sheep hen duck goose fox rabbit hare mouse owl crow robin
    frog squirrel hedgehog pony donkey lamb pig deer turtle heron badger"""
)
THIEVES = ("crow", "goat", "dog", "fox", "squirrel")
NUMBERS = words("no one two three four five six seven eight nine ten eleven twelve")
