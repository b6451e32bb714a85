"""The Crafter policy's tokenizer: one token for each phrase that the world says over and over.

It is the embedded model's tokenizer with another vocabulary, and makes the same promises (`decode`
gives back any text, no token is unknown). A thing in view takes four tokens, so an observation fits
into about eighty.
"""

from functools import lru_cache
from itertools import product

from transformers import PreTrainedTokenizerFast

from automem_learners.pretrain.tokenizer import build_tokenizer

_COMPASS = ("north", "south", "west", "east")
_CORNERS = tuple(f"{one}-{other}" for one, other in product(_COMPASS[:2], _COMPASS[2:]))
_TOOLS = tuple(
    f"{what} {kind}" for what in ("wood", "stone", "iron") for kind in ("pickaxe", "sword")
)
_PHRASES = (
    *(f" {steps} to your {way}" for steps in ("step", "steps") for way in (*_COMPASS, *_CORNERS)),
    *(f" to your {way}" for way in _COMPASS),
    *(f" {value}/9" for value in range(10)),
    *(f" {tool}" for tool in _TOOLS),
    " ripe plant",
    " the edge of the world",
    "\n-",
    " You see:",
    " You face",
    " You are asleep.",
    " You carry:",
    " Vitals: health",
    ", food",
    ", drink",
    ", energy",
    *(f" {verb} {thing}" for verb in ("place", "Place") for thing in ("plant", "Plant")),
)
_WORDS = """
grass sand path tree water lava stone coal iron diamond table furnace plant sapling cow zombie
skeleton arrow fence wood nothing unknown tunnels
Noop Move West East North South Do Sleep Place Stone Table Furnace Plant Make Wood Iron
Pickaxe Sword north south west east place collect drink wake up make eat defeat explore
done saw key text file progress survival yes no ok unchanged empty match
error now more lines line not shown a the is was You Vitals
health food energy carry see face asleep are
"""
_NUMBERS = tuple(f" {number}" for number in range(40))


@lru_cache(maxsize=1)
def crafter_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; the same object for every caller of the process."""
    words = [f" {word}" for word in _WORDS.split()]
    tokens = [*_PHRASES, *words, *_NUMBERS, ".txt"]
    pieces = [phrase.replace(".", r"\.") for phrase in sorted(_PHRASES, key=len, reverse=True)]
    return build_tokenizer(tokens, pieces)
