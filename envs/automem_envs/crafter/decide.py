"""The scripted player's mind: one action from what is seen now and what the notes say.

Rules in order: danger at hand, needs that are urgent, what can be crafted on the spot, the most
worthwhile thing in view or remembered, else exploring. A pure function; it plays decently, not
well, and is no measure of what memory is worth in Crafter.
"""

import msgspec

from automem_envs.crafter.notes import (
    CREATURES,
    FREE_GROUND,
    STEP,
    Place,
    Recalled,
    exact_offset,
    likely_offsets,
    neighbour,
)
from automem_envs.crafter.path import distance, first_step
from automem_envs.crafter.recipes import Recipe
from automem_envs.crafter.sight import Sight, Thing

TOOLS = (
    "wood pickaxe",
    "wood sword",
    "stone pickaxe",
    "stone sword",
    "iron pickaxe",
    "iron sword",
)
"""In the order in which they are made."""
_FULL = 9
_TOOL_FOR = {
    "stone": "wood pickaxe",
    "coal": "wood pickaxe",
    "iron": "stone pickaxe",
    "diamond": "iron pickaxe",
}
_BACK = {"west": "east", "east": "west", "north": "south", "south": "north"}


class Known(msgspec.Struct):
    """Everything a decision rests on."""

    sight: Sight
    recalled: Recalled
    done: set[str]
    """Achievements in plain words."""
    places: dict[str, list[Place]]
    """Remembered places by kind."""
    goal: Place | None
    """Where exploring leads."""
    recipes: dict[str, Recipe]

    def has(self, item: str) -> int:
        """How many of an item are carried."""
        return self.sight.inventory.get(item, 0)

    def thing(self, kind: str) -> Thing | None:
        """The nearest thing of a kind in view."""
        return next((thing for thing in self.sight.things if thing.kind == kind), None)

    def is_near(self, kind: str, within: int) -> bool:
        """Whether a thing of a kind is in view so near."""
        thing = self.thing(kind)
        return thing is not None and thing.distance <= within


def wanted_kinds(sight: Sight) -> list[str]:
    """Kinds worth looking up in memory: not in view, and of use with what is carried."""
    wanted = []
    carried = sight.inventory
    if sight.vitals["drink"] <= 5:
        wanted.append("water")
    if carried.get("wood", 0) < 4 and "iron sword" not in carried:
        wanted.append("tree")
    for kind, tool in _TOOL_FOR.items():
        limit = 5 if kind == "stone" else 1
        if tool in carried and carried.get(kind, 0) < limit:
            wanted.append(kind)
    if carried.get("iron") or carried.get("sapling"):
        wanted.append("furnace")
    wanted.append("plant")
    in_view = {thing.kind for thing in sight.things}
    return [kind for kind in wanted if kind not in in_view]


def decide(known: Known) -> str:
    """The next action in words."""
    sight = known.sight
    if sight.is_asleep:
        return "Sleep"
    return (
        _answer_danger(known)
        or _take_at_hand(known)
        or _rest(known)
        or _craft(known)
        or _pursue(known)
        or _explore(known)
    )


def _answer_danger(known: Known) -> str | None:
    """Fight what is next to us; cover lava; step back from it."""
    sight = known.sight
    if sight.facing in ("zombie", "skeleton"):
        return "Do"
    for kind in ("zombie", "skeleton"):
        thing = known.thing(kind)
        if thing is not None and thing.distance == 1:
            return _move(thing.direction)
    if sight.facing == "lava" and known.has("stone"):
        return "Place Stone"
    zombie = known.thing("zombie")
    if zombie is not None and zombie.distance <= 3 and sight.vitals["health"] >= 4:
        return _go(known, zombie)
    return None


def _take_at_hand(known: Known) -> str | None:
    """What the square ahead offers."""
    sight = known.sight
    facing, vitals = sight.facing, sight.vitals
    if facing == "water" and vitals["drink"] < _FULL:
        return "Do"
    if facing == "ripe plant":
        return "Do"
    if facing == "cow" and (vitals["food"] <= 6 or "eat cow" not in known.done):
        return "Do"
    if facing == "tree" and known.has("wood") < _FULL and _needs_wood(known):
        return "Do"
    if facing in _TOOL_FOR and known.has(_TOOL_FOR[facing]) and known.has(facing) < _FULL:
        return "Do"
    if facing == "grass":
        if known.has("sapling"):
            return "Place Plant"
        if "place plant" not in known.done and not known.is_near("zombie", 6):
            return "Do"
    if facing in FREE_GROUND and known.has("stone") and "place stone" not in known.done:
        return "Place Stone"
    return None


def _needs_wood(known: Known) -> bool:
    return any(f"make {tool}" not in known.done and not known.has(tool) for tool in TOOLS)


def _rest(known: Known) -> str | None:
    """Sleep where it is safe, or anywhere when there is no strength left."""
    vitals = known.sight.vitals
    energy = vitals["energy"]
    if energy >= _FULL or min(vitals["food"], vitals["drink"]) <= 2:
        return None
    if any(known.is_near(kind, 9) for kind in ("zombie", "skeleton", "arrow")):
        return None
    wish = 4 if "wake up" in known.done else 8
    if energy > wish:
        return None
    if _is_sheltered(known):
        return "Sleep"
    if known.has("stone") and known.sight.facing in FREE_GROUND and _walls(known) == 3:
        return "Place Stone"
    if energy <= 4 and known.has("wood pickaxe") and known.is_near("stone", 6):
        return _burrow(known)
    if energy <= 1:
        return "Sleep"
    return None


def _is_sheltered(known: Known) -> bool:
    """No grass near, from which zombies come; or walls on all sides."""
    return not known.is_near("grass", 5) or _walls(known) == 4


def _walls(known: Known) -> int:
    """How many of the four squares beside the player are known to be blocked."""
    here = known.recalled.place
    squares = known.recalled.squares
    beside = (squares.get(neighbour(here, heading)) for heading in STEP)
    return sum(
        kind is not None and kind not in FREE_GROUND and kind not in CREATURES for kind in beside
    )


def _burrow(known: Known) -> str | None:
    """Dig on into the stone."""
    stone = known.thing("stone")
    if stone is None:
        return None
    if known.sight.facing == "stone":
        return "Do"
    if known.sight.facing == "path":
        return _move_if_safe(known, known.sight.heading)
    return _go(known, stone)


def _craft(known: Known) -> str | None:
    """Make a tool, or place what making the next one needs."""
    stone_to_place = known.recipes.get("place furnace")
    for tool in TOOLS:
        name = f"make {tool}"
        if known.has(tool) or name not in known.recipes:
            continue
        recipe = known.recipes[name]
        if any(known.has(item) < count for item, count in recipe.uses.items()):
            continue
        missing = [kind for kind in recipe.beside if not _in_reach(known, kind)]
        if not missing:
            return f"Make {tool.title()}"
        action = _provide(known, missing, recipe)
        if action:
            return action
    if (
        stone_to_place is not None
        and "place furnace" not in known.done
        and known.has("stone pickaxe")
        and _can_pay(known, stone_to_place.uses)
    ):
        return _place(known, "furnace")
    return None


def _provide(known: Known, missing: list[str], recipe: Recipe) -> str | None:
    """Walk to the table and furnace that are near, else place new ones if all can be paid."""
    here = known.recalled.place
    near = {
        kind: [place for place in known.places.get(kind, ()) if distance(place, here) <= 12]
        for kind in missing
    }
    absent = [kind for kind in missing if known.thing(kind) is None and not near[kind]]
    total = dict(recipe.uses)
    for kind in absent:
        for item, count in known.recipes[f"place {kind}"].uses.items():
            total[item] = total.get(item, 0) + count
    if "table" in absent and "make wood sword" not in known.done and not known.has("wood sword"):
        total["wood"] = total.get("wood", 0) + 1
    if not _can_pay(known, total):
        return None
    for kind in missing:
        thing = known.thing(kind)
        if thing is not None:
            return _go(known, thing)
        if near[kind]:
            return _walk(known, near[kind])
    return _place(known, absent[0])


def _can_pay(known: Known, uses: dict[str, int]) -> bool:
    return all(known.has(item) >= count for item, count in uses.items())


def _in_reach(known: Known, kind: str) -> bool:
    """Whether a table or furnace is on one of the eight squares around."""
    thing = known.thing(kind)
    if thing is None:
        return False
    return thing.distance == 1 or (thing.distance == 2 and thing.direction not in STEP)


def _place(known: Known, kind: str) -> str | None:
    if known.sight.facing in FREE_GROUND:
        return f"Place {kind.title()}"
    for heading in STEP:
        ahead = known.recalled.squares.get(neighbour(known.recalled.place, heading))
        if (ahead is None or ahead in FREE_GROUND) and (move := _move_if_safe(known, heading)):
            return move
    return None


def _pursue(known: Known) -> str | None:
    """Go for the most worthwhile thing, in view or remembered."""
    best: tuple[float, str | None, list[Place]] = (0.05, None, [])
    here = known.recalled.place
    for kind, worth in _worths(known).items():
        thing = known.thing(kind)
        if thing is not None:
            targets = [(here[0] + east, here[1] + south) for east, south in likely_offsets(thing)]
            score = worth / (thing.distance + 2)
        else:
            targets = [p for p in known.places.get(kind, ()) if distance(p, here) > 3]
            if not targets:
                continue
            nearest = min(targets, key=lambda place: distance(place, here))
            targets = [nearest]
            score = worth / (distance(nearest, here) + 4)
        if score > best[0]:
            best = (score, kind, targets)
    if best[1] is None:
        return None
    return _walk(known, best[2])


def _worths(known: Known) -> dict[str, float]:
    """Kinds worth going to, with how much."""
    vitals, done = known.sight.vitals, known.done
    worths: dict[str, float] = {"ripe plant": 5.0}
    thirst, hunger = vitals["drink"], vitals["food"]
    if thirst <= 6 or "collect drink" not in done:
        worths["water"] = 40.0 if thirst <= 3 else 3.0 if thirst <= 6 else 1.5
    if hunger <= 6 or ("eat cow" not in done and hunger < _FULL):
        worths["cow"] = 30.0 if hunger <= 3 else 3.0
    if _needs_wood(known) and known.has("wood") < _FULL:
        worths["tree"] = 3.0 if known.has("wood") < 5 else 1.5
    for kind, tool in _TOOL_FOR.items():
        if known.has(tool):
            enough = _FULL if kind == "stone" else 2
            if known.has(kind) < enough:
                worths[kind] = {"stone": 1.2, "coal": 3.0, "iron": 8.0, "diamond": 12.0}[kind]
    if "place plant" not in done:
        worths["grass"] = 1.0
    if known.has("iron sword") and known.has("stone"):
        worths.pop("stone", None)
    is_fit = vitals["health"] >= 6 and known.has("wood sword")
    for creature in ("zombie", "skeleton"):
        if is_fit and f"defeat {creature}" not in done:
            worths[creature] = 3.0
    return worths


def _explore(known: Known) -> str:
    """On towards the goal in the notes, else straight on."""
    if known.goal is not None and known.goal != known.recalled.place:
        action = _walk(known, [known.goal])
        if action:
            return action
    for heading in (known.sight.heading, "west", "north", "east", "south"):
        if move := _move_if_safe(known, heading):
            return move
    return "Noop"


def _go(known: Known, thing: Thing) -> str | None:
    """Towards a thing in view."""
    here = known.recalled.place
    return _walk(
        known, [(here[0] + east, here[1] + south) for east, south in likely_offsets(thing)]
    )


def _walk(known: Known, targets: list[Place]) -> str | None:
    """One step towards the nearest of `targets`; digs where the way is stone."""
    here = known.recalled.place
    squares = known.recalled.squares
    digs = bool(known.has("wood pickaxe"))
    danger = _dangerous(known)

    def is_passable(place: Place) -> bool:
        kind = squares.get(place)
        if place in danger:
            return False
        return kind is None or kind in FREE_GROUND or (digs and kind in ("stone", "arrow"))

    visits: dict[Place, int] = {}
    for place in known.recalled.trail:
        visits[place] = visits.get(place, 0) + 1
    targets = [t for t in targets if squares.get(t) not in FREE_GROUND or t != here]
    heading = first_step(here, set(targets), is_passable, visits) if targets else None
    if heading is None:
        return None
    ahead = squares.get(neighbour(here, heading))
    if ahead == "stone" and digs and known.sight.heading == heading:
        return "Do"
    return _move_if_safe(known, heading)


def _dangerous(known: Known) -> set[Place]:
    """Squares next to lava, and lava."""
    lava = [place for place, kind in known.recalled.squares.items() if kind == "lava"]
    thing = known.thing("lava")
    here = known.recalled.place
    if thing is not None and exact_offset(thing) is None:
        lava += [(here[0] + east, here[1] + south) for east, south in likely_offsets(thing)]
    return {neighbour(place, heading) for place in lava for heading in STEP} | set(lava)


def _move_if_safe(known: Known, heading: str) -> str | None:
    """A move, unless it may lead into lava."""
    ahead = neighbour(known.recalled.place, heading)
    kind = known.recalled.squares.get(ahead)
    if kind == "lava":
        return None
    if known.is_near("lava", 1) and kind is None:
        return None
    return _move(heading)


def _move(heading: str) -> str:
    return f"Move {heading.capitalize()}"
