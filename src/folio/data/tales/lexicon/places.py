"""Where they go, and what is to be seen and hidden there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go. `where` is "in the forest"; `scenes` are sights on arrival,
    `sunny_scenes` those of fine weather.

    `ground` is "indoors", "green" or "bare": what one can hide behind depends on it.
    """

    name: str
    where: str
    ground: str
    scenes: tuple[str, ...]
    sunny_scenes: tuple[str, ...]

    @property
    def indoors(self) -> bool:
        return self.ground == "indoors"

    @property
    def the(self) -> str:
        return "the " + self.name


_GROUNDS = {"+": "indoors", "-": "green", "=": "bare"}
# Preposition and ground, name, sights in any weather / sights when the sun shines.
_PLACES = """
in+ kitchen: The kettle was singing on the stove. Something smelled of warm bread
in+ barn: Two horses were eating hay. It smelled of hay and warm milk
in+ attic: Dust danced in the light. It was dark and full of old boxes
in+ cellar: It was cool and dark. Rows of jars stood along the wall
in+ library: Nobody said a word. An old man was reading by the window
in+ school: The children were singing. The bell had just rung
in+ workshop: The floor was covered with wood chips. Somebody was hammering
in+ church: The candles were burning. It was cool and quiet
in+ castle: The long halls were cold. Old flags hung on the walls
in+ mill: The great wheel was turning. Everything was white with flour
in+ stable: A pony put its head over the door. It smelled of hay
in+ shop: The shelves were full from top to bottom. A small bell rang over the door
in+ bakery: The bread was still warm. It smelled of cake and cinnamon
in+ museum: A school class was drawing the statues. It was very quiet
in+ theater: The actors were singing on the stage. The red curtain was down
in+ inn: A fire was burning. The guests were having supper
in+ tower: The stairs went round and round. The wind sang in the windows
in+ hospital: Everyone spoke softly. The nurses were busy
in+ greenhouse: The air was warm and smelled of flowers. Rows of tomatoes were growing
in- garden: A robin sang on the fence / Bees hummed over the roses
in- forest: It was quiet under the trees / The birds were singing
in- meadow: Sheep stood close together / The grass was high. Bees hummed in the grass
in= cave: Water dripped from the walls. It was dark and cold
in- orchard: A ladder stood by a tree / Apples lay in the grass
in- valley: Smoke rose from the farms / Cows stood in the shade
in= village: Smoke rose from the roofs / A dog slept in the middle of the road
in- park: An old couple sat on a bench / Children were playing on the grass
in- field: Crows were looking for seeds / The corn was high and golden
at= market: The sellers called out their prices. The stalls were full of fruit
at= harbor: Gulls cried over the boats. A big ship had just come in
at= station: The train was late. People were waiting with their bags
at- farm: The hens ran in all directions. A dog barked behind the gate
at= fair: Music came from every side. The big wheel turned slowly
at= beach: The waves were rolling in / Children were building a castle of sand
at= lighthouse: The sea was loud below. Gulls sat in a row on the wall
at= well: Two women were talking and laughing / The water was cold and clear
at- camp: The tents stood in a circle. Somebody was singing by the fire
at- pond: Ducks swam in a line / A frog sat on a stone
at= fountain: Two pigeons were drinking / The water sparkled
at- playground: A boy was waiting for his friends / Children were laughing and running
by- river: The water ran fast / A heron stood in the water
by- lake: A small boat lay on the sand / The water was still
by= canal: A boat full of sand went slowly by / Ducks slept by the water
by= waterfall: The water was as loud as thunder. Everything was wet
on- hill: Nobody else was there / There was a fine view of the whole valley
on= bridge: A cart rolled slowly across. The river was loud below
on= island: There was nobody to be seen. Seals slept on the rocks
on= pier: The boards were wet / Some boys were fishing
on= square: Pigeons walked between the stalls / A band was playing
"""


def _place(line: str) -> Place:
    head, scenes = line.split(": ")
    preposition, name = head.split()
    where = f"{preposition[:-1]} the {name}"
    any_weather, _, sunny = scenes.partition(" / ")
    ground = _GROUNDS[preposition[-1]]
    return Place(name, where, ground, _sentences(any_weather), _sentences(sunny))


def _sentences(text: str) -> tuple[str, ...]:
    return tuple(sentence + "." for sentence in text.split(". ") if sentence)


PLACES = {p.name: p for p in map(_place, _PLACES.strip().splitlines())}

SPOTS = {
    "indoors": (
        "under a table", "behind a chair", "on a shelf", "in a dark corner",
        "beside the door", "under a bench",
    ),
    "green": (
        "under a bench", "on a stone", "behind a tree", "beside the path",
        "under a bush", "in the grass",
    ),
    "bare": (
        "under a bench", "on a stone", "behind a wall", "next to a barrel",
        "behind some boxes", "beside a boat",
    ),
}  # fmt: skip
