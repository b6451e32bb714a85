"""A NetHack observation read back as data, for players that have nothing but its text.

Places are (column, row) of the terminal, as the `cursor` section tells them. Which signs on the map
are walls and which are open doors, creatures or statues is not in the map; it follows from the
`around` section, which names them.
"""

import re

import msgspec

Place = tuple[int, int]
"""(column, row)."""

STEPS: dict[str, Place] = {
    "north": (0, -1),
    "south": (0, 1),
    "west": (-1, 0),
    "east": (1, 0),
    "northwest": (-1, -1),
    "northeast": (1, -1),
    "southwest": (-1, 1),
    "southeast": (1, 1),
}
_SECTIONS = ("task", "message", "around", "ways", "cursor", "map", "inventory", "status")
_THING = re.compile(r"(.+?) \d+ steps?(?: ([a-z]+)|: (\d+) ([a-z]+), (\d+) ([a-z]+))")
_STEPS_AWAY = re.compile(r" (\d+) steps? [a-z]+$")
_PAIR = re.compile(r"(health|turn|dungeon level) (\d+)(?:/(\d+))?")
_ARTICLE = re.compile(r"(an?|the|\d+) ")


class Sight(msgspec.Struct):
    """See the module's docstring."""

    task: str = ""
    message: str = ""
    under: str = ""
    """What is underfoot; empty where nothing is."""
    here: Place = (0, 0)
    rows: list[str] = []
    """The terminal's 24 lines, each 80 wide; the first is blank."""
    things: dict[Place, str] = {}
    """What `around` names, by place; of ground in many squares, the nearest."""
    carried: dict[str, str] = {}
    """Letter to description."""
    health: int = 1
    most_health: int = 1
    depth: int = 1
    turn: int = 1
    hunger: str = ""

    def sign(self, place: Place) -> str:
        """The character on the map."""
        column, row = place
        inside = 0 < row < 22 and 0 <= column < 79
        return self.rows[row][column] if inside and row < len(self.rows) else " "

    def is_creature(self, place: Place) -> bool:
        """Something alive is there: a creature's sign, and a name without an article."""
        sign, name = self.sign(place), self.things.get(place, "")
        is_named = bool(name) and not _ARTICLE.match(name) and not name.startswith("statue ")
        return is_named and (sign.isalpha() or sign in "@&:;'~12345")


def read_sight(observation: str) -> Sight:
    """Read any observation; sections that are missing leave their fields as they are."""
    sections: dict[str, list[str]] = {}
    body: list[str] = []
    for line in observation.split("\n"):
        if line.endswith(":") and line[:-1] in _SECTIONS:
            body = sections.setdefault(line[:-1], [])
        else:
            body.append(line)
    sight = Sight(
        task=" ".join(sections.get("task", ())), message="\n".join(sections.get("message", ()))
    )
    sight.rows = ["".ljust(80), *(line.ljust(80) for line in sections.get("map", ()))]
    sight.here = _standing(sections.get("cursor", []), sight.rows)
    for line in sections.get("around", ()):
        if line.startswith("under you: "):
            sight.under = line[11:]
        elif (read := _read_thing(line)) is not None:
            name, (east, south) = read
            sight.things.setdefault((sight.here[0] + east, sight.here[1] + south), name)
    for line in sections.get("inventory", ()):
        if line[1:3] == ": ":
            sight.carried[line[0]] = line[3:]
    _read_status(sight, sections.get("status", []))
    return sight


def _standing(cursor: list[str], rows: list[str]) -> Place:
    """Where the player is: under the cursor, or, while a prompt has that, the first @."""
    numbers = [int(number) for number in re.findall(r"\d+", " ".join(cursor))]
    if len(numbers) == 2 and numbers[0] > 0:
        return numbers[1], numbers[0]
    return next(((line.index("@"), row) for row, line in enumerate(rows) if "@" in line), (0, 0))


def _read_thing(line: str) -> tuple[str, Place] | None:
    """The name and the offset of a line of `around`."""
    match = _THING.fullmatch(line)
    if match is None:
        return None
    name, along, down, vertical, right, horizontal = match.groups()
    if along:
        away = _STEPS_AWAY.search(line)
        if along not in STEPS or away is None:
            return None
        east, south = STEPS[along]
        return name, (east * int(away[1]), south * int(away[1]))
    return name, (STEPS[horizontal][0] * int(right), STEPS[vertical][1] * int(down))


def _read_status(sight: Sight, lines: list[str]) -> None:
    for name, number, most in _PAIR.findall("\n".join(lines)):
        if name == "health":
            sight.health, sight.most_health = int(number), int(most or 1)
        elif name == "turn":
            sight.turn = int(number)
        else:
            sight.depth = int(number)
    if len(lines) > 2:
        sight.hunger = lines[2].partition(",")[0]
