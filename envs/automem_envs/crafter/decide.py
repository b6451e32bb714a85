"""The scripted player's mind: one action from what is seen now and what the notes say.

Rules in order: danger at hand, needs that are urgent, what can be crafted on the spot, the most
worthwhile thing in view or remembered, else exploring. A pure function; it plays decently, not
well, and is no measure of what memory is worth in Crafter.
"""

from automem_envs.crafter.notes import FREE_GROUND, STEP, Place, likely_offsets, neighbour
from automem_envs.crafter.path import distance
from automem_envs.crafter.recipes import Recipe
from automem_envs.crafter.shelter import is_weak, rest
from automem_envs.crafter.sight import Sight, Thing
from automem_envs.crafter.walking import Known, go, move, move_if_safe, walk

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


def wanted_kinds(sight: Sight) -> list[str]:
    """Kinds worth looking up in memory: not in view, and of use with what is carried."""
    wanted = []
    carried = sight.inventory
    if sight.vitals["drink"] <= 5:
        wanted.append("water")
    if sight.vitals["food"] <= 5:
        wanted.append("cow")
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
        or _eat_or_drink(known)
        or rest(known)
        or _take_at_hand(known)
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
            return move(thing.direction)
    if sight.facing == "lava" and known.has("stone"):
        return "Place Stone"
    skeleton = known.thing("skeleton") or known.thing("arrow")
    if skeleton is not None and (is_weak(known) or "defeat skeleton" in known.done):
        return _evade(known, skeleton)
    zombie = known.thing("zombie")
    if zombie is not None and zombie.distance <= 3 and not is_weak(known):
        return go(known, zombie)
    return None


def _evade(known: Known, shooter: Thing) -> str | None:
    """Wall off what shoots, else walk out of its sight."""
    sight = known.sight
    if sight.heading in shooter.direction and sight.facing in FREE_GROUND and known.has("stone"):
        return "Place Stone"
    here = known.recalled.place
    offsets = likely_offsets(shooter)
    east, south = offsets[len(offsets) // 2]
    away = [(here[0] - 3 * _sign(east), here[1] - 3 * _sign(south))]
    if east == 0:
        away += [(here[0] - 4, here[1]), (here[0] + 4, here[1])]
    if south == 0:
        away += [(here[0], here[1] - 4), (here[0], here[1] + 4)]
    return walk(known, away)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _eat_or_drink(known: Known) -> str | None:
    """Food and water on the square ahead."""
    facing, vitals = known.sight.facing, known.sight.vitals
    if facing == "water" and vitals["drink"] < _FULL:
        return "Do"
    if facing == "cow" and (vitals["food"] <= 6 or "eat cow" not in known.done):
        return "Do"
    return "Do" if facing == "ripe plant" else None


def _take_at_hand(known: Known) -> str | None:
    """What else the square ahead offers."""
    facing = known.sight.facing
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
            return go(known, thing)
        if near[kind]:
            return walk(known, near[kind])
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
        if (ahead is None or ahead in FREE_GROUND) and (move := move_if_safe(known, heading)):
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
            targets = [place for place in targets if not _is_avoided(known, place)]
            if not targets:
                continue
            score = worth / (thing.distance + 2)
        else:
            targets = [
                place
                for place in known.places.get(kind, ())
                if distance(place, here) > 3 and not _is_avoided(known, place)
            ]
            if not targets:
                continue
            nearest = min(targets, key=lambda place: distance(place, here))
            targets = [nearest]
            score = worth / (distance(nearest, here) + 4)
        if score > best[0]:
            best = (score, kind, targets)
    if best[1] is None:
        return None
    return walk(known, best[2])


def _is_avoided(known: Known, place: Place) -> bool:
    """Whether a place is near where the player got nowhere, and not at hand."""
    if known.avoid is None or distance(place, known.recalled.place) <= 1:
        return False
    return distance(place, known.avoid) <= 6


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
        action = walk(known, [known.goal])
        if action:
            return action
    for heading in (known.sight.heading, "west", "north", "east", "south"):
        if move := move_if_safe(known, heading):
            return move
    return "Noop"
