"""What an agent sees of Crafter: the observation as data, as text, and read back from the text.

Only the present: no coordinates, no step counter, no history. Both directions are here so that
they cannot drift apart; a test holds that reading gives back what was written. Independent of the
game's package, so a player costs no import of the game.
"""

import re

import msgspec

VITALS = ("health", "food", "drink", "energy")
VITAL_MAX = 9
VIEW_WIDTH = 9
VIEW_HEIGHT = 7
EDGE = "the edge of the world"
"""What is faced where the world ends."""


class Thing(msgspec.Struct, frozen=True):
    """The nearest thing of one kind."""

    kind: str
    distance: int
    """Steps: the sum of both axes."""
    direction: str
    """One of the eight compass directions, e.g. `north-west`."""


class Sight(msgspec.Struct, frozen=True):
    """One observation."""

    things: tuple[Thing, ...]
    """The nearest of each kind in view, nearest first."""
    facing: str
    """What is on the square ahead: a creature or thing, else the ground."""
    heading: str
    """The compass direction of that square."""
    vitals: dict[str, int]
    """Each of `VITALS`, 0 to 9."""
    inventory: dict[str, int]
    """What is carried, more than 0 of each."""
    is_asleep: bool = False
    invalid: str | None = None
    """The answer that was no action, where the last one was none."""


def compass(east: int, south: int) -> str:
    """Direction of an offset: `compass(-2, -1)` is `north-west`. An offset of (0, 0) is ``."""
    vertical = "north" if south < 0 else "south" if south > 0 else ""
    horizontal = "west" if east < 0 else "east" if east > 0 else ""
    return "-".join(part for part in (vertical, horizontal) if part)


def steps(count: int) -> str:
    """`1 step`, `2 steps`."""
    return "1 step" if count == 1 else f"{count} steps"


def write_sight(sight: Sight) -> str:
    """The observation as text."""
    lines = []
    if sight.invalid is not None:
        lines.append(f'"{sight.invalid}" is not an action of this game; Noop was done instead.')
    if sight.is_asleep:
        lines.append("You are asleep.")
    lines.append("You see:")
    lines += [
        f"- {thing.kind} {steps(thing.distance)} to your {thing.direction}"
        for thing in sight.things
    ]
    lines.append(f"You face {sight.facing} to your {sight.heading}.")
    vitals = ", ".join(f"{name} {sight.vitals[name]}/{VITAL_MAX}" for name in VITALS)
    lines.append(f"Vitals: {vitals}.")
    carried = ", ".join(f"{name} {count}" for name, count in sight.inventory.items())
    lines.append(f"You carry: {carried or 'nothing'}.")
    return "\n".join(lines)


_THING = re.compile(r"- (.+) (\d+) steps? to your ([a-z-]+)")
_FACING = re.compile(r"You face (.+) to your ([a-z-]+)\.")
_INVALID = re.compile(r'"(.*)" is not an action of this game; Noop was done instead\.')


def read_sight(text: str) -> Sight:
    """The observation that `text` was written from. Lines of another form are passed over; a text
    without the line on what is faced raises ValueError."""
    things: list[Thing] = []
    heading = facing = ""
    invalid: str | None = None
    vitals = dict.fromkeys(VITALS, VITAL_MAX)
    inventory: dict[str, int] = {}
    is_asleep = False
    for line in text.split("\n"):
        if match := _THING.fullmatch(line):
            things.append(Thing(match[1], int(match[2]), match[3]))
        elif match := _FACING.fullmatch(line):
            facing, heading = match[1], match[2]
        elif line.startswith("Vitals: "):
            for part in line[8:-1].split(", "):
                name, _, value = part.rpartition(" ")
                vitals[name] = int(value.partition("/")[0])
        elif line.startswith("You carry: ") and line != "You carry: nothing.":
            for part in line[11:-1].split(", "):
                name, _, value = part.rpartition(" ")
                inventory[name] = int(value)
        elif line == "You are asleep.":
            is_asleep = True
        elif match := _INVALID.fullmatch(line):
            invalid = match[1]
    if not heading:
        raise ValueError(f"not an observation of Crafter: {text[:200]!r}")
    return Sight(tuple(things), facing, heading, vitals, inventory, is_asleep, invalid)
