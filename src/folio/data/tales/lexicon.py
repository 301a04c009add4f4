"""The words of the tales: who lives in the world, where they go, what they own.

Tables are plain text, one entry to a line, so that they can be read and extended
without knowing any code. Everything is parsed once, on import.
"""

from __future__ import annotations

from dataclasses import dataclass


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# --------------------------------------------------------------------- people

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

# --------------------------------------------------------------------- places


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go. `where` is "in the forest"; `scenes` are sights on arrival."""

    name: str
    where: str
    indoors: bool
    scenes: tuple[str, ...]

    @property
    def the(self) -> str:
        return "the " + self.name


_PLACES = """
in+ kitchen: The kettle was singing on the stove. Something smelled of warm bread.
in+ barn: Two horses were eating hay. It smelled of hay and warm milk.
in+ attic: Dust danced in the light. It was dark and full of old boxes.
in+ cellar: It was cool and dark. Rows of jars stood along the wall.
in+ library: Nobody said a word. An old man was reading by the window.
in+ school: The children were singing. The bell had just rung.
in+ workshop: The floor was covered with wood chips. Somebody was hammering.
in+ church: The candles were burning. It was cool and quiet.
in+ castle: The long halls were cold. Old flags hung on the walls.
in+ mill: The great wheel was turning. Everything was white with flour.
in+ stable: A pony put its head over the door. It smelled of hay.
in+ shop: The shelves were full from top to bottom. A small bell rang over the door.
in+ bakery: The bread was still warm. It smelled of cake and cinnamon.
in+ museum: A school class was drawing the statues. It was very quiet.
in+ theater: The actors were singing on the stage. The red curtain was down.
in+ inn: A fire was burning. The guests were having supper.
in+ tower: The stairs went round and round. The wind sang in the windows.
in+ hospital: Everyone spoke softly. The nurses were busy.
in+ greenhouse: The air was warm and smelled of flowers. Rows of tomatoes were growing.
in- garden: The roses were open. Bees hummed over the flowers.
in- forest: The birds were singing in the trees. A squirrel ran up a tree.
in- meadow: Sheep were eating the fresh grass. The grass was high.
in- cave: Water dripped from the walls. It was dark and cold.
in- orchard: The trees were heavy with fruit. Apples lay in the grass.
in- valley: A thin mist lay over the fields. Cows stood in the shade.
in- village: A dog slept in the middle of the road. Smoke rose from the roofs.
in- park: Children were playing on the grass. An old couple sat on a bench.
in- field: The corn was high and golden. Crows were looking for seeds.
at- market: The sellers called out their prices. The stalls were full of fruit.
at- harbor: Gulls cried over the boats. A big ship had just come in.
at+ station: The train was late. People were waiting with their bags.
at- farm: The hens ran in all directions. A dog barked behind the gate.
at- fair: Music came from every side. The big wheel turned slowly.
at- beach: The waves were rolling in. Children were building a castle of sand.
at- lighthouse: The sea was loud below. Gulls sat in a row on the wall.
at- well: Two women were talking and laughing. The water was cold and clear.
at- camp: Tents stood in a circle. Somebody was singing by the fire.
at- pond: Ducks swam in a line. A frog sat on a stone.
at- fountain: Pigeons were drinking. The water sparkled.
at- playground: The swings were full. Children were laughing and running.
by- river: The water ran fast. A heron stood in the water.
by- lake: The water was still. A small boat lay on the sand.
by- canal: A boat full of sand went slowly by. Ducks slept by the water.
by- waterfall: The water was as loud as thunder. Everything was wet.
on- hill: There was a fine view of the whole valley. The grass bent in the wind.
on- bridge: A cart rolled slowly across. The river was loud below.
on- island: There was nobody to be seen. Seals slept on the rocks.
on- pier: Some boys were fishing. The boards were wet.
on- square: Pigeons walked between the stalls. A band was playing.
"""


def _place(line: str) -> Place:
    head, scenes = line.split(": ")
    preposition, name = head.split()
    where = f"{preposition[:-1]} the {name}"
    told = tuple(scene.rstrip(".") + "." for scene in scenes.split(". "))
    return Place(name, where, preposition.endswith("+"), told)


PLACES = {p.name: p for p in map(_place, _PLACES.strip().splitlines())}

SPOTS = {
    True: (
        "under a table", "behind a chair", "on a shelf", "in a dark corner",
        "beside the door", "under a bench",
    ),
    False: (
        "under a bench", "on a stone", "behind a wall", "beside the path",
        "under a bush", "next to a barrel",
    ),
}  # fmt: skip

# --------------------------------------------------------------------- things

# What a thing of each family may look like; a story's thing has one look.
_COLORS = "red blue green yellow white black brown gray orange purple pink"
_LOOKS = {
    "toy": f"wooden painted striped shiny little funny new big {_COLORS}",
    "tool": "heavy old sturdy new good small big red green strong",
    "wear": f"soft fine plain striped new old lovely {_COLORS}",
    "book": "thin old thick new little strange big red blue green yellow brown",
    "music": "old fine golden polished new lovely small little brown black",
    "pot": "copper big deep clean white old new blue small plain heavy",
    "gem": "silver golden tiny old smooth shiny lovely small pretty strange bright",
}
COLORS = words(_COLORS)

# Each thing with what it is good for and where. "_" stands for the thing itself;
# without it the thing is the tool: "fly _" -> "flew the kite", but
# "light the path" -> "lit the path with the lantern".
_THINGS = """
toy kite: fly _ in the wind @ hill meadow beach field
toy ball: play with _ on the grass @ park garden field meadow
toy drum: play _ in the band @ square fair
toy puppet: put on a show for the children @ theater school fair
toy doll: play with _ under the trees @ garden park playground
toy whistle: call the dogs home @ farm meadow hill
toy hoop: roll _ down the path @ hill park village
toy wagon: ride down the slope in _ @ hill valley
toy balloon: show _ to the other children @ fair playground park
toy robot: show _ to the class @ school
toy marble: play with _ in the sand @ playground beach
tool hammer: mend the fence @ farm garden; build a house for the birds @ workshop barn
tool rope: pull the boat out of the water @ river lake; make a swing @ orchard park
tool lantern: light the way @ cave forest cellar
tool saw: cut wood for the winter @ forest barn
tool spade: plant a tree @ garden orchard park; dig for treasure @ beach island
tool bucket: carry water to the horses @ stable farm
tool basket: gather mushrooms @ forest; carry bread to the guests @ inn
tool needle: sew a new shirt @ kitchen workshop
tool ladder: pick the highest apples @ orchard; mend the roof @ barn church mill
tool brush: paint the door @ shop school inn; paint the boat @ harbor lake
tool compass: find the way home @ forest island
tool rake: gather the dry leaves @ garden park
tool shovel: clear the path @ church village school
tool net: catch fish for supper @ lake river pier
tool axe: chop wood for the fire @ camp forest
tool broom: sweep the floor @ kitchen school shop church
tool cart: bring the hay in @ field meadow; carry sand and stones @ bridge tower
wear scarf: wear _ at the fair @ fair
wear hat: wear _ by the sea @ beach pier; wear _ at the wedding @ church
wear coat: wear _ on the ship @ harbor
wear glove: catch the ball @ park field
wear cap: wear _ in the race @ field village
wear belt: wear _ in the play @ theater
wear jacket: wear _ on the water @ lake pier
wear apron: wear _ by the stove @ inn kitchen
wear shawl: wear _ by the fire @ camp inn
wear cloak: wear _ in the school play @ school theater
wear sweater: wear _ on cold nights @ camp tower
wear blanket: sit on _ by the water @ beach lake river
wear umbrella: sit under _ @ beach square park
book book: read _ by the fire @ inn library
book map: find the old treasure @ island cave forest; find the shortest road @ valley
book newspaper: read _ at breakfast @ inn
book diary: write in _ every evening @ tower library
book notebook: draw birds in _ @ pond lake forest
book atlas: show the children the far islands @ school library
book songbook: sing from _ with the others @ church camp
book poster: tell everyone about the concert @ square market
music flute: play _ at the dance @ square inn fair
music fiddle: play _ at the wedding @ church inn
music trumpet: play _ in the parade @ village square
music harmonica: play _ by the fire @ camp
music bell: call everyone to supper @ farm inn camp
music horn: call the ships home @ lighthouse pier
music guitar: play _ by the water @ beach lake river
music banjo: play _ at the fair @ fair
pot pot: cook soup for everyone @ kitchen camp inn
pot spoon: stir the soup @ kitchen camp inn
pot cup: drink from the spring @ valley waterfall well
pot jug: fetch fresh milk @ farm barn; fetch cold water @ well fountain
pot teapot: make tea for the guests @ inn kitchen garden
pot kettle: boil water for tea @ camp kitchen
pot bowl: feed the cats @ barn stable; mix the dough @ bakery
pot pan: fry eggs for breakfast @ camp inn
pot jar: keep honey in _ for the winter @ cellar kitchen
pot bottle: carry lemonade to the others @ park beach
gem coin: do a trick with _ @ square fair park
gem ring: wear _ at the wedding @ church
gem key: open the old gate @ castle garden; open the iron door @ cellar tower
gem shell: listen to _ every evening @ tower attic
gem feather: write a long letter @ library school
gem necklace: wear _ at the dance @ inn castle square
gem medal: wear _ in the parade @ square village
gem watch: time the race @ field square
gem mirror: send a sign to the ships @ hill tower
"""


@dataclass(frozen=True, slots=True)
class Use:
    """What a thing is good for: "*fly _ in the wind", done at one of `places`."""

    phrase: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing: its noun, its family, how it may look, what it is good for."""

    noun: str
    family: str
    looks: tuple[str, ...]
    uses: tuple[Use, ...]


def _kind(line: str) -> Kind:
    head, uses = line.split(": ")
    family, noun = head.split()
    parsed = tuple(
        Use("*" + phrase, tuple(places.split()))
        for phrase, places in (use.split(" @ ") for use in uses.split("; "))
    )
    return Kind(noun, family, words(_LOOKS[family]), parsed)


KINDS = {k.noun: k for k in map(_kind, _THINGS.strip().splitlines())}

# ------------------------------------------------------- things that are counted

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
_GATHERED = """
apple orchard | pear orchard | plum orchard | peach orchard | cherry orchard
nut forest | egg farm | carrot garden | onion garden | potato field | tomato greenhouse
radish garden | mushroom forest | pumpkin field | bun bakery | roll bakery
cookie kitchen | candle church | ribbon fair | nail workshop | flower meadow
rose garden | tulip greenhouse | daisy meadow | lemon market | fig market
"""
GATHERED = dict(e.split() for e in _GATHERED.replace("\n", "|").split("|") if e.strip())
EATEN = frozenset(COUNTED) - {
    "candle", "ribbon", "nail", "flower", "rose", "tulip", "daisy",
    "potato", "onion", "mushroom", "pumpkin", "egg", "lemon",
}  # fmt: skip
ANIMALS = words(
    """dog cat goat horse cow sheep hen duck goose fox rabbit hare mouse owl crow robin
    frog squirrel hedgehog pony donkey lamb pig deer turtle heron badger"""
)
THIEVES = ("crow", "goat", "dog", "fox", "squirrel")
NUMBERS = words("no one two three four five six seven eight nine ten eleven twelve")

# --------------------------------------------------------------- time and weather

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

# ------------------------------------------------------------------ small worlds


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
