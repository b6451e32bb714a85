"""The scripted player's notes: how a step is written down, and what a run of such lines says.

`actions.txt` holds a first line with the position at the line after it, then a line for each of
the last steps. `recall` reads them and follows the moves: where the player stands, which squares
it knows exactly, what it has achieved meanwhile. Positions are the player's own reckoning, in
squares east and south of where its notes begin; the game shows none.
"""

from collections.abc import Sequence

import msgspec

from automem_envs.crafter.sight import VITALS, Sight, Thing

Place = tuple[int, int]
"""(squares east, squares south) of the notes' origin."""

STEP: dict[str, Place] = {"west": (-1, 0), "east": (1, 0), "north": (0, -1), "south": (0, 1)}
CREATURES = frozenset({"cow", "zombie", "skeleton", "arrow"})
FREE_GROUND = frozenset({"grass", "sand", "path"})
_POSITION = "position: "
_INITIALS = {
    "".join((vertical, "-" if vertical and horizontal else "", horizontal)): (
        vertical[:1] + horizontal[:1]
    ).upper()
    for vertical in ("", "north", "south")
    for horizontal in ("", "west", "east")
    if vertical or horizontal
}
"""Compass directions as the notes abbreviate them: `north-west` is `NW`."""
_DIRECTIONS = {initials: direction for direction, initials in _INITIALS.items()}


class Noted(msgspec.Struct, frozen=True):
    """One step as noted: the action, and what was seen after it."""

    action: str
    sight: Sight


class Recalled(msgspec.Struct):
    """What a run of notes says."""

    place: Place
    """Where the player stands."""
    trail: list[Place]
    """Where it stood after each noted step; the last is `place`."""
    squares: dict[Place, str]
    """What is known to lie on single squares; free ground included."""
    achieved: set[str]
    """Achievements in plain words that these steps show."""
    steps: list[Noted]


def write_step(action: str, sight: Sight) -> str:
    """A step as one line of notes."""
    things = ", ".join(
        f"{thing.kind} {thing.distance} {_INITIALS[thing.direction]}" for thing in sight.things
    )
    vitals = " ".join(str(sight.vitals[name]) for name in VITALS)
    carried = ", ".join(f"{name} {count}" for name, count in sight.inventory.items())
    asleep = "; asleep" if sight.is_asleep else ""
    return (
        f"{action}: facing {sight.facing} {_INITIALS[sight.heading]}; {things or 'nothing'}; "
        f"vitals {vitals}; has {carried or 'nothing'}{asleep}"
    )


def read_step(line: str) -> Noted | None:
    """The step that a line notes; None for a line of another form."""
    action, _, rest = line.partition(": facing ")
    parts = rest.split("; ")
    if len(parts) < 4:
        return None
    facing, _, initial = parts[0].rpartition(" ")
    heading = _DIRECTIONS.get(initial, "")
    things = []
    for part in parts[1].split(", "):
        words = part.rsplit(" ", 2)
        if len(words) == 3 and words[1].isdigit() and words[2] in _DIRECTIONS:
            things.append(Thing(words[0], int(words[1]), _DIRECTIONS[words[2]]))
    vitals = [int(word) for word in parts[2].split()[1:] if word.isdigit()]
    inventory = {}
    for part in parts[3].removeprefix("has ").split(", "):
        name, _, count = part.rpartition(" ")
        if count.isdigit():
            inventory[name] = int(count)
    if heading not in STEP or len(vitals) != len(VITALS):
        return None
    sight = Sight(
        tuple(things),
        facing,
        heading,
        dict(zip(VITALS, vitals, strict=True)),
        inventory,
        is_asleep=parts[-1] == "asleep",
    )
    return Noted(action, sight)


def write_position(place: Place) -> str:
    """The first line of the notes."""
    return f"{_POSITION}{place[0]},{place[1]}"


def read_place(text: str) -> Place | None:
    """`12,-7` as a place; None for another form."""
    east, _, south = text.strip().partition(",")
    try:
        return int(east), int(south)
    except ValueError:
        return None


def recall(lines: Sequence[str]) -> Recalled:
    """Follow the noted steps; lines of another form are passed over."""
    place: Place = (0, 0)
    steps: list[Noted] = []
    for line in lines:
        if line.startswith(_POSITION):
            place = read_place(line[len(_POSITION) :]) or place
        elif (noted := read_step(line)) is not None:
            steps.append(noted)
    recalled = Recalled(place, [], {}, set(), steps)
    before: Sight | None = None
    for number, noted in enumerate(steps):
        if before is not None:
            if has_moved(before, noted.action, noted.sight):
                place = neighbour(place, noted.sight.heading)
            recalled.achieved |= achievements_shown(before, noted.action, noted.sight)
        recalled.trail.append(place)
        _note_squares(recalled.squares, place, noted.sight, is_latest=number == len(steps) - 1)
        before = noted.sight
    recalled.place = place
    return recalled


def neighbour(place: Place, heading: str) -> Place:
    """The next square that way."""
    east, south = STEP[heading]
    return place[0] + east, place[1] + south


def has_moved(before: Sight, action: str, after: Sight) -> bool:
    """Whether a step was taken, judged by what was seen before and after it."""
    if not action.startswith("Move ") or before.is_asleep:
        return False
    heading = action[5:].lower()
    if after.heading != heading:
        return False
    if before.heading == heading:
        return before.facing in FREE_GROUND
    beside = {thing.direction: thing.kind for thing in before.things if thing.distance == 1}
    if heading in beside:
        return beside[heading] in FREE_GROUND
    if after.facing in FREE_GROUND:
        return True
    nearest = {thing.kind: thing.distance for thing in before.things}
    if after.facing not in CREATURES and nearest.get(after.facing, 9) > 1:
        return True
    return _still(before) != _still(after)


def _still(sight: Sight) -> set[Thing]:
    """What is seen and does not walk."""
    return {thing for thing in sight.things if thing.kind not in CREATURES}


def achievements_shown(before: Sight, action: str, after: Sight) -> set[str]:
    """Achievements that one step shows, in plain words."""
    shown = set()
    for name, count in after.inventory.items():
        if count > before.inventory.get(name, 0):
            shown.add(f"make {name}" if " " in name else f"collect {name}")
    verb, _, thing = action.lower().partition(" ")
    if verb == "place" and (
        sum(after.inventory.values()) < sum(before.inventory.values())
        and after.facing in (thing, "plant")
    ):
        shown.add(f"place {thing}")
    if action == "Do":
        shown |= _shown_by_doing(before, after)
    if before.is_asleep and not after.is_asleep and after.vitals["energy"] == 9:
        shown.add("wake up")
    return shown


def _shown_by_doing(before: Sight, after: Sight) -> set[str]:
    if before.facing == "water":
        return {"collect drink"}
    if before.facing == "ripe plant" and after.facing == "plant":
        return {"eat plant"}
    if before.facing == "cow" and after.vitals["food"] > before.vitals["food"]:
        return {"eat cow"}
    if before.facing in ("zombie", "skeleton"):
        nearest = {thing.kind: thing.distance for thing in after.things}
        if nearest.get(before.facing, 9) > 2:
            return {f"defeat {before.facing}"}
    return set()


def _note_squares(squares: dict[Place, str], place: Place, sight: Sight, is_latest: bool) -> None:
    """Add what one sight tells of single squares; creatures only while they are seen."""
    squares[place] = "path"
    ahead = neighbour(place, sight.heading)
    if sight.facing not in CREATURES or is_latest:
        squares[ahead] = sight.facing
    for thing in sight.things:
        offset = exact_offset(thing)
        if offset is not None and (is_latest or thing.kind not in CREATURES):
            squares[place[0] + offset[0], place[1] + offset[1]] = thing.kind


def exact_offset(thing: Thing) -> Place | None:
    """The square of a thing where distance and direction leave one choice."""
    if thing.direction in STEP:
        east, south = STEP[thing.direction]
        return east * thing.distance, south * thing.distance
    if thing.distance == 2:
        vertical, _, horizontal = thing.direction.partition("-")
        return STEP[horizontal][0], STEP[vertical][1]
    return None


def likely_offsets(thing: Thing) -> list[Place]:
    """Every square in view that a thing may be on."""
    exact = exact_offset(thing)
    if exact is not None:
        return [exact]
    vertical, _, horizontal = thing.direction.partition("-")
    east, south = STEP[horizontal][0], STEP[vertical][1]
    return [
        (east * across, south * (thing.distance - across))
        for across in range(1, min(4, thing.distance - 1) + 1)
        if thing.distance - across <= 3
    ]
