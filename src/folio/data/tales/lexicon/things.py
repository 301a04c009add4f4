"""What they own: looks and uses of things."""

from __future__ import annotations

from dataclasses import dataclass

from folio.data.tales.lexicon.words import words

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
wear scarf: wear _ with pride @ fair market square
wear hat: wear _ by the sea @ beach pier; wear _ at the wedding @ church
wear coat: wear _ on the ship @ harbor
wear glove: catch the ball @ park field
wear cap: wear _ in the race @ field village
wear belt: wear _ in the play @ theater
wear jacket: wear _ on the water @ lake pier
wear apron: wear _ by the stove @ inn kitchen
wear shawl: wear _ by the fire @ camp inn
wear cloak: wear _ in the school play @ school theater
wear sweater: wear _ by the fire @ camp inn
wear blanket: sit on _ by the water @ beach lake river
wear umbrella: sit under _ @ beach square park
book book: read _ by the fire @ inn library
book map: find the old treasure @ island cave forest; find the shortest road @ valley
book newspaper: read _ at breakfast @ inn
book diary: fill _ with stories @ tower library
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
music banjo: play _ for the crowd @ fair square
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
gem shell: listen to _ in peace @ tower attic
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
