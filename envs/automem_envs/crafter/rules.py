"""The game's words: actions, achievements, published protocol, and what an agent is told.

Names and costs are read from the data file of the installed `crafter` package; nothing about the
rules is written down twice. Needs the game's package, unlike `sight`, which players read.
"""

from collections.abc import Mapping
from typing import Any

from crafter import constants

from automem_envs.crafter.simulation import AREA

PUBLISHED_SEEDS: tuple[int, ...] = tuple(range(42, 52))
"""The ten episodes of the published tables."""
PUBLISHED_MAX_STEPS = 2000
"""The published cap on actions per episode."""

_COMPASS = {"left": "West", "right": "East", "up": "North", "down": "South"}


def _in_words(name: str) -> str:
    """`make_wood_pickaxe` as `Make Wood Pickaxe`; `move_left` as `Move West`."""
    return " ".join(_COMPASS.get(part, part.capitalize()) for part in name.split("_"))


GAME_ACTIONS: tuple[str, ...] = tuple(constants.actions)
"""The game's own names, in the order of its action numbers."""
ACTIONS: tuple[str, ...] = tuple(_in_words(name) for name in GAME_ACTIONS)
"""The same actions as agents write them."""
FALLBACK_ACTION = "Noop"
ACHIEVEMENTS: tuple[str, ...] = tuple(constants.achievements)

VOCABULARY: tuple[str, ...] = tuple(
    name.replace("_", " ")
    for names in (constants.materials, constants.items, ACHIEVEMENTS)
    for name in names
)
"""The names in the data file."""

_INDEX = {name.casefold(): number for number, name in enumerate(ACTIONS)}


def action_number(text: str) -> int | None:
    """The game's number of an action in words (any case and spacing), or None."""
    return _INDEX.get(" ".join(text.split()).casefold())


def instruction() -> str:
    """What an agent is told about the game: the same for every seed."""
    most = max(item["max"] for item in constants.items.values())
    lines = [
        "You are in a wild, open world seen from above, one square per step. Stay alive and reach "
        "as many of the achievements below as you can; each counts once, in any order.",
        "",
        f"The world is {AREA[0]} by {AREA[1]} squares; you begin in its middle.",
        "",
        "Each turn you give one action, spelled as here:",
        ", ".join(ACTIONS) + ".",
        "Move turns you and takes one step if the square ahead is free (grass, sand or path). Do "
        "acts on the square you face: collect it, drink, eat, or hit a creature. Place and Make "
        "use up what you carry; Place puts the thing on the square you face. Sleep lasts until "
        "your energy is full or something hurts you; meanwhile other actions do nothing. Anything "
        f"that is not an action counts as {FALLBACK_ACTION}.",
        "",
        "You see 9 squares from west to east and 7 from north to south, yourself in the middle: of "
        "each kind of thing the nearest one, in steps along the compass directions.",
        f"Health, food, drink and energy go up to {most}; so does each thing you carry. Food and "
        "drink fall with time and energy while you are awake; when one of them is at 0, health "
        "falls, else it recovers. At health 0 you are dead and the game is over. Walking into lava "
        "kills. Zombies hunt on grass and more in the dark, and hit sleepers hardest; skeletons "
        "shoot in tunnels.",
        "",
        f"The {len(ACHIEVEMENTS)} achievements:",
    ]
    lines += [f"- {readable(name)}{_terms(name)}" for name in ACHIEVEMENTS]
    return "\n".join(lines)


def readable(name: str) -> str:
    """A game name in plain words: `wood_pickaxe` as `wood pickaxe`."""
    return name.replace("_", " ")


def _terms(achievement: str) -> str:
    """What an achievement asks for, from the game's data: `: needs wood pickaxe` or nothing."""
    verb, _, thing = achievement.partition("_")
    if verb == "collect":
        return _collecting(thing)
    if verb in ("place", "make"):
        rule: Mapping[str, Any] = getattr(constants, verb)[thing]
        text = f": uses {_amounts(rule['uses'])}"
        if rule.get("nearby"):
            text += f", beside {' and '.join(rule['nearby'])}"
        if rule.get("where"):
            text += f", onto {', '.join(rule['where'])}"
        return text
    return _OTHER_TERMS[achievement]


_OTHER_TERMS = {
    "defeat_skeleton": ": hit it until it falls",
    "defeat_zombie": ": hit it until it falls; a sword hits harder",
    "eat_cow": ": hit it until it falls",
    "eat_plant": ": Do on a placed plant once it is ripe, which takes long; creatures beside it "
    "destroy it",
    "wake_up": ": sleep until energy is full",
}
"""The achievements whose terms are in the game's code, not in its data."""


def _collecting(item: str) -> str:
    """Terms of collecting `item`: where from, with which tool, how likely."""
    for source, rule in constants.collect.items():
        if item in rule["receive"]:
            text = f": from {source}"
            if rule["require"]:
                text += f", needs {_amounts(rule['require'])}"
            if "probability" in rule:
                text += f", works {rule['probability']:.0%} of the time"
            return text
    return ""


def _amounts(amounts: Mapping[str, int]) -> str:
    return " and ".join(f"{count} {readable(item)}" for item, count in amounts.items())
