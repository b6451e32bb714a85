"""A scripted player of NetHack that works from text and its memory files alone.

It explores, fights what stands in its way, eats, prays, and goes down. The map on the screen shows
what was seen; what it does not show is noted in `map.txt`, keyed by level and place: where the
player stood, where it searched, each with the turn. `survival.txt` holds the turn of the last
prayer. With `reads=False` it is its own memoryless twin.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Read, Search, Upsert
from automem_envs.nethack.route import (
    Ground,
    first_step,
    frontier,
    nearest,
    search_spot,
    ways_from,
)
from automem_envs.nethack.sight import STEPS, Place, Sight, read_sight
from automem_envs.note_player import NotePlayer, keyed, lines_of

MAP_FILE = "map.txt"
SURVIVAL_FILE = "survival.txt"
STOOD, SEARCHED, PRAYED, HEAVY = "stood", "searched", "prayed", "heavy"
PRAYER_TURNS = 1000
"""Between prayers that are surely heard; the first is, from turn 300 on."""
FIRST_PRAYER = 300
SEARCH = "15 search"
_STRAIGHT = ("north", "south", "west", "east")
_LEFT_ALONE = (
    "floating eye",
    "blue jelly",
    "acid blob",
    "cockatrice",
    "chickatrice",
    "spotted jelly",
)
"""Touching them is worse than leaving them."""
_FOOD = (
    "food ration",
    "cram ration",
    "lembas",
    "apple",
    "carrot",
    "orange",
    "pear",
    "melon",
    "banana",
)
_MORE_FOOD = (
    "fortune cookie",
    "candy bar",
    "cream pie",
    "pancake",
    "lump of royal jelly",
    "slime mold",
)
_OFFERED = re.compile(r"\[([^\]]+)\]")
_TOO_MUCH = "carrying too much to get through"
_DOWNWARDS = ("staircase down", "ladder down", "trap door", "hole")


class NetHackPlayer(NotePlayer):
    """See the module's docstring; implements `automem.engine.scripted.Player`."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        """Where the player stands, what it did there, and a prayer."""
        sight = read_sight(view.observation)
        if not sight.rows[1:]:
            return ()
        key = f"D{sight.depth} {sight.here[0]},{sight.here[1]}"
        notes: list[AnyOp] = [Upsert(MAP_FILE, f"{key} {STOOD}", str(sight.turn))]
        if view.action == SEARCH:
            notes.append(Upsert(MAP_FILE, f"{key} {SEARCHED}", str(sight.turn)))
        if _TOO_MUCH in sight.message:
            notes.append(Upsert(MAP_FILE, f"D{sight.depth} {HEAVY}", str(sight.turn)))
        if "You begin praying" in sight.message:
            notes.append(Upsert(SURVIVAL_FILE, PRAYED, str(sight.turn)))
        return notes

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        """Notes on this level, and the last prayer where it matters."""
        sight = read_sight(view.observation)
        found: list[AnyOp] = [Search(MAP_FILE, f"D{sight.depth} ")]
        if _is_in_danger(sight) or sight.hunger in ("weak", "fainting"):
            found.append(Read(SURVIVAL_FILE))
        return found

    def decide(self, view: PromptView, chance: random.Random) -> str:
        """The game action."""
        sight = read_sight(view.observation)
        answer = self.answer(sight)
        if answer:
            return answer
        if view.notices:
            # The world stands still: whatever was meant does not work.
            return chance.choice(list(STEPS))
        return self.survive(sight, view) or self.fight(sight) or self.go(sight, view, chance)

    def answer(self, sight: Sight) -> str:
        """What the game asks for, where it asks."""
        message = sight.message.rpartition("\n")[2]
        if message.startswith("In what direction"):
            return self.direction(sight) or "esc"
        if "What do you want to eat" in message:
            return _food(sight) or "esc"
        if "pray?" in message:
            return "y"
        is_question = bool(_OFFERED.search(message)) and message.rstrip().endswith(("]", ")"))
        return "esc" if is_question or message.endswith("?") else ""

    def direction(self, sight: Sight) -> str:
        """Where to kick: at a door beside the player."""
        return next((word for word in _STRAIGHT if beside(sight, word) == "closed door"), "")

    def survive(self, sight: Sight, view: PromptView) -> str:
        """Prayer and food."""
        text = keyed(lines_of(view, SURVIVAL_FILE)).get(PRAYED, "")
        since = (
            sight.turn - int(text) if text.isdigit() else sight.turn + PRAYER_TURNS - FIRST_PRAYER
        )
        is_heard = since > PRAYER_TURNS
        if _is_in_danger(sight) and is_heard:
            return "pray"
        if sight.hunger in ("hungry", "weak", "fainting"):
            if _food(sight):
                return "eat"
            if sight.hunger != "hungry" and is_heard:
                return "pray"
        return ""

    def fight(self, sight: Sight) -> str:
        """Attack what is hostile and beside the player."""
        for word, (east, south) in STEPS.items():
            place = (sight.here[0] + east, sight.here[1] + south)
            name = sight.things.get(place, "")
            if sight.is_creature(place) and not name.startswith(
                ("tame ", "peaceful ", *_LEFT_ALONE)
            ):
                return word
        return ""

    def go(self, sight: Sight, view: PromptView, chance: random.Random) -> str:
        """Down where a way down is known, else to where nobody has been, else search."""
        if sight.under.startswith(_DOWNWARDS):
            return "down"
        if "door is locked" in sight.message or "WHAM" in sight.message:
            return "kick"
        stood, searched = _notes(view, sight.depth)
        ground = Ground(sight, _is_heavy(view, sight))
        came = ways_from(ground, sight.here)
        goal = nearest(came, lambda place: sight.sign(place) == ">")
        if goal is None:
            goal = frontier(ground, came, stood, chance)
        if goal is not None:
            return first_step(came, goal)
        return self.stuck(sight, ground, searched, chance)

    def stuck(
        self, sight: Sight, ground: Ground, searched: dict[Place, int], chance: random.Random
    ) -> str:
        """Nothing new can be reached: search where it pays most."""
        came = ways_from(ground, sight.here)
        return first_step(came, search_spot(ground, came, searched, chance)) or SEARCH


def beside(sight: Sight, word: str) -> str:
    """The name of what lies one step that way."""
    east, south = STEPS[word]
    return sight.things.get((sight.here[0] + east, sight.here[1] + south), "")


def _notes(view: PromptView, depth: int) -> tuple[set[Place], dict[Place, int]]:
    """Squares of this level that were stood on, and those that were searched from, with turns."""
    stood: set[Place] = set()
    searched: dict[Place, int] = {}
    for key, turn in keyed(lines_of(view, MAP_FILE)).items():
        level, _, rest = key.partition(" ")
        place, _, what = rest.partition(" ")
        column, _, row = place.partition(",")
        if level == f"D{depth}" and column.isdigit() and row.isdigit() and turn.isdigit():
            if what == STOOD:
                stood.add((int(column), int(row)))
            elif what == SEARCHED:
                searched[int(column), int(row)] = int(turn)
    return stood, searched


def _is_heavy(view: PromptView, sight: Sight) -> bool:
    noted = keyed(lines_of(view, MAP_FILE))
    return _TOO_MUCH in sight.message or f"D{sight.depth} {HEAVY}" in noted


def _is_in_danger(sight: Sight) -> bool:
    return sight.health < 6 or 7 * sight.health < sight.most_health


def _food(sight: Sight) -> str:
    """The letter of something safe to eat."""
    for letter, name in sight.carried.items():
        if any(food in name for food in _FOOD + _MORE_FOOD):
            return letter
    return ""


__all__ = ["NetHackPlayer", "beside"]
