"""Words that the sessions are made of. No word of a pool is part of another one of it."""

from random import Random

_FIRST_TEXT = (
    "Ada Bela Cleo Dora Emil Faye Gero Hugo Ines Jory Kira Lars Mina Nils Olga Pia Quinn Rolf "
    "Suri Tova Uwe Vito Wanda Xenia Yuri Zora"
)
_LAST_TEXT = (
    "Brook Cliff Dale Fenn Grove Heath Knoll Lake Marsh North Orchard Pond Quarry Ridge Stone "
    "Thorn Vale Wood"
)
_DETAILS_TEXT = {
    "drink": "oolong mocha cider lassi kefir cocoa matcha espresso tonic rooibos",
    "city": "Lima Oslo Quito Turin Hanoi Perth Dakar Minsk Leeds Kyoto",
    "pet": "gecko parrot hamster tortoise beagle canary ferret rabbit pony newt",
    "instrument": "cello oboe banjo harp tuba flute zither organ drum sitar",
    "fruit": "plum mango fig papaya lychee quince cherry lemon guava melon",
    "colour": "teal amber crimson olive indigo ivory maroon silver violet beige",
}
_ROOMS_TEXT = (
    "archive attic balcony bakery cellar chapel cloakroom darkroom foundry gallery garage "
    "greenhouse gym kitchen laboratory larder laundry library loft lounge museum nursery "
    "observatory office pantry parlour pharmacy registry scullery smithy stable studio "
    "theatre vault veranda vestry workshop"
)
_THINGS_TEXT = (
    "abacus anvil bellows bucket candle compass crate drill easel funnel globe hammer hourglass "
    "kettle ladder lantern magnet mirror needle pulley ribbon saddle scales sextant spade stapler "
    "telescope trunk umbrella violin whistle"
)
_COLOURS_TEXT = "red blue green white black grey brown pink"
_SHAPES_TEXT = "arc bell cone dart egg fan gate hook ink jar knot leaf moth nut oar peg"

DETAILS = {detail: tuple(text.split()) for detail, text in _DETAILS_TEXT.items()}
"""What one may know of a person, and its values."""

ROOMS = tuple(_ROOMS_TEXT.split())
THINGS = tuple(_THINGS_TEXT.split())
SYMBOLS = tuple(
    f"{colour} {shape}" for colour in _COLOURS_TEXT.split() for shape in _SHAPES_TEXT.split()
)
"""Names of statements in proofs."""


def people(chance: Random) -> list[str]:
    """Every full name, shuffled."""
    names = [f"{first} {last}" for first in _FIRST_TEXT.split() for last in _LAST_TEXT.split()]
    chance.shuffle(names)
    return names


def other_than(old: str, pool: tuple[str, ...], chance: Random) -> str:
    """A word of the pool, but not `old`."""
    return chance.choice([word for word in pool if word != old])
