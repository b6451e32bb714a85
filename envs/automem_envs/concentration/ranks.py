"""Names of cards and of ranks: short words of which none is part of another.

SEARCH finds substrings, so a rank that was part of another one's name (or of a word that a memory
line may hold) would be found where it is not.
"""

_ANIMALS_TEXT = (
    "bear bison camel crab crow deer duck eagle fox frog gecko goat hare hawk heron horse "
    "koala lion lynx moose mouse mule otter owl panda pony robin seal shark sheep skunk sloth "
    "snake swan tiger toad whale wolf yak zebra"
)
ANIMALS = tuple(_ANIMALS_TEXT.split())
"""Ranks of decks of up to 80 cards."""

_COLOURS_TEXT = (
    "amber azure beige black blue bronze brown coral cyan gold green grey indigo ivory khaki "
    "lilac lime maroon mauve navy ochre olive orange peach pink plum purple red rose ruby "
    "rust sand silver tan teal violet white wine yellow umber"
)
COLOURS = tuple(_COLOURS_TEXT.split())
"""Larger decks: `COLOUR ANIMAL`."""

MAX_CARDS = 2 * len(COLOURS) * len(ANIMALS)


def rank_names(count: int) -> list[str]:
    """A pool of at least `count` distinct ranks, in a fixed order."""
    if count <= len(ANIMALS):
        return list(ANIMALS)
    return [f"{colour} {animal}" for colour in COLOURS for animal in ANIMALS]


def card_name(card: int, cards: int) -> str:
    """The card's number as text, from 1 on, in two digits or as many as the largest one needs."""
    return f"{card + 1:0{max(2, len(str(cards)))}d}"
