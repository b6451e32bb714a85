"""What things cost, read from the game's instruction as an agent is given it."""

import re
from functools import lru_cache

import msgspec

_TERMS = re.compile(r"^- ((?:make|place) .+?): uses ([^,\n]+)(?:, beside ([^,\n]+))?", re.MULTILINE)


class Recipe(msgspec.Struct, frozen=True):
    """One thing to make or place."""

    uses: dict[str, int]
    beside: tuple[str, ...]


@lru_cache(maxsize=8)
def read_recipes(instruction: str) -> dict[str, Recipe]:
    """Achievement in plain words (`make wood pickaxe`) to its recipe."""
    recipes = {}
    for name, uses, beside in _TERMS.findall(instruction):
        amounts = {}
        for part in uses.split(" and "):
            count, _, item = part.partition(" ")
            amounts[item] = int(count)
        recipes[name] = Recipe(amounts, tuple(beside.split(" and ")) if beside else ())
    return recipes
