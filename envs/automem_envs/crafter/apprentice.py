"""A small mind for Crafter: the scripted player's decisions, with notes that fit into one file.

It decides as `CrafterPlayer` does (`decide`), from what is in its context: the present, and the
lines of `progress.txt` that were read or shown. What it notes is little: which things are done that
do not show in the inventory (`place plant: done`), and which way it explores (`explore: east`).
Positions and maps are the larger player's. Its habits are given as probabilities, so that it can be
a careful note-taker or, as the small policy's teacher, one who mostly forgets to write and to look.

Stateless: what it knows is in the request's messages, its randomness in `request.seed`.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

from automem.agent.prompt_view import PromptView, read_prompt
from automem.engine.protocol import GenerateRequest
from automem.memory.dialects.base import Commit, Done
from automem.memory.dialects.tags import TagsDialect
from automem.memory.ops import AnyOp, Append, Read, Upsert
from automem.seeds import derive
from automem.trace.events import Routine
from automem_envs.crafter.decide import decide
from automem_envs.crafter.notes import FREE_GROUND, STEP, Place, recall, write_step
from automem_envs.crafter.recipes import Recipe, read_recipes
from automem_envs.crafter.sight import EDGE, Sight, read_sight
from automem_envs.crafter.walking import Known
from automem_envs.note_player import keyed, lines_of

PROGRESS_FILE = "progress.txt"
OTHER_FILE = "survival.txt"
"""A file of the scaffold in which it has nothing to write."""
EXPLORE = "explore"
DONE_WORD = "done"
NOTABLE = ("place plant", "place stone", "place furnace", "collect drink", "wake up")
"""What is worth a line: the mind acts on it, and nothing in view tells it."""
_WALLS = frozenset({"water", "lava", "table", "furnace", "plant", EDGE})
"""What turns an explorer round."""
_FAR = 20
"""Squares to the place that stands for a direction."""
_DIALECT = TagsDialect()


@dataclass(frozen=True, slots=True)
class Habits:
    """Probabilities of memory habits; what is left of 1 is doing nothing.

    LOG, where something is worth a line: `note` it; note it in the `wrong_file`; note the
    `wrong_thing`. LOG at any other step: `chatter`, a line that helps nobody. PLAN, where there are
    lines: `look` at them; look into the wrong file (`wrong_look`)."""

    note: float = 0.0
    wrong_file: float = 0.0
    wrong_thing: float = 0.0
    chatter: float = 0.0
    look: float = 0.0
    wrong_look: float = 0.0


NO_NOTES = Habits()
CAREFUL = Habits(note=1.0, look=1.0)
FORGETFUL = Habits(
    note=0.34, wrong_file=0.06, wrong_thing=0.04, chatter=0.02, look=0.34, wrong_look=0.06
)
"""Doing nothing is likelier than any operation, as with the embedded game's teacher."""


@dataclass(frozen=True, slots=True)
class Option:
    """One thing a player may say, and how likely it says it."""

    text: str
    probability: float
    habit: str
    """Field of `Habits`, `nothing`, or `act`."""


def options(request: GenerateRequest, habits: Habits, recipes: dict[str, Recipe]) -> list[Option]:
    """Everything the player may answer; probabilities sum to 1, texts may repeat."""
    view = read_prompt(request.messages)
    sight = read_sight(view.observation)
    if view.routine is Routine.LOG:
        return _log_options(view, sight, habits)
    notes = keyed(lines_of(view, PROGRESS_FILE))
    act = _print(Commit(choose(sight, notes, recipes)))
    if view.wants_commit or view.turns or not view.files.get(PROGRESS_FILE):
        return [Option(act, 1.0, "act")]
    looks = [
        Option(_print(Read(PROGRESS_FILE)), habits.look, "look"),
        Option(_print(Read(OTHER_FILE)), habits.wrong_look, "wrong_look"),
    ]
    if view.shown.get(PROGRESS_FILE):
        looks = []  # the lines are in view already
    return _with_nothing(looks, act, "nothing")


def worth_noting(action: str, sight: Sight, has_notes: bool) -> list[tuple[str, str]]:
    """Key and text of each line that this step is worth; of several, one is as good as another."""
    verb, _, thing = action.lower().partition(" ")
    if verb == "place" and sight.facing == thing and f"place {thing}" in NOTABLE:
        return [(f"place {thing}", DONE_WORD)]
    if action == "Do" and sight.facing == "water":
        return [("collect drink", DONE_WORD)]
    if action == "Sleep" and not sight.is_asleep and sight.vitals["energy"] == 9:
        return [("wake up", DONE_WORD)]
    has_met_a_wall = verb == "move" and thing == sight.heading and sight.facing in _WALLS
    if has_met_a_wall or not has_notes:
        barred = sight.heading if sight.facing not in FREE_GROUND else ""
        return [(EXPLORE, heading) for heading in STEP if heading != barred]
    return []


def _log_options(view: PromptView, sight: Sight, habits: Habits) -> list[Option]:
    nothing = _print(Done())
    if view.turns:
        return [Option(nothing, 1.0, "nothing")]
    right = worth_noting(view.action, sight, bool(view.files.get(PROGRESS_FILE)))
    if not right:
        idle = _print(Append(OTHER_FILE, f"saw {sight.facing}"), Done())
        return _with_nothing([Option(idle, habits.chatter, "chatter")], nothing, "nothing")
    found = []
    for key, text in right:
        share = 1 / len(right)
        line = _print(Upsert(PROGRESS_FILE, key, text), Done())
        found.append(Option(line, habits.note * share, "note"))
        line = _print(Upsert(OTHER_FILE, key, text), Done())
        found.append(Option(line, habits.wrong_file * share, "wrong_file"))
    wrong = [name for name in NOTABLE if name != right[0][0]]
    for name in wrong:
        line = _print(Upsert(PROGRESS_FILE, name, DONE_WORD), Done())
        found.append(Option(line, habits.wrong_thing / len(wrong), "wrong_thing"))
    return _with_nothing(found, nothing, "nothing")


def _with_nothing(memory: list[Option], rest: str, habit: str) -> list[Option]:
    """`memory` options, and the probability that is left for `rest`."""
    chosen = [option for option in memory if option.probability > 0]
    left = max(0.0, 1.0 - sum(option.probability for option in chosen))
    return [*chosen, Option(rest, left, habit)] if left > 0 else chosen


def _print(*values: AnyOp | Commit | Done) -> str:
    return "".join(_DIALECT.print(value) for value in values)


def choose(sight: Sight, notes: dict[str, str], recipes: dict[str, Recipe]) -> str:
    """The action, from what is seen now and the notes in view."""
    return decide(
        Known(
            sight=sight,
            recalled=recall([write_step("Noop", sight)]),
            done={name for name, text in notes.items() if text == DONE_WORD},
            places={},
            goal=_goal(notes.get(EXPLORE, "")),
            avoid=None,
            recipes=recipes,
        )
    )


def _goal(heading: str) -> Place | None:
    if heading not in STEP:
        return None
    east, south = STEP[heading]
    return east * _FAR, south * _FAR


class ApprenticePlayer:
    """See the module's docstring; implements the scripted engine's `Player`."""

    def __init__(self, careful: bool = False, slip: float = 0.0, **habits: float) -> None:
        """`careful`: every habit right; else forgetful, and any habit can be given another
        probability. `slip`: how often it commits any action at all, for training data."""
        start = CAREFUL if careful else FORGETFUL
        merged = {name: getattr(start, name) for name in Habits.__slots__} | habits
        self.habits = Habits(**merged)
        self._slip = slip

    def options(self, request: GenerateRequest) -> list[Option]:
        """Everything it may answer here, with probabilities that sum to 1."""
        return options(request, self.habits, _recipes())

    def reply(self, request: GenerateRequest) -> str:
        """Its completion, drawn by the request's seed."""
        choices = self.options(request)
        chooser = random.Random(request.seed)
        text = chooser.choices(choices, weights=[one.probability for one in choices])[0].text
        slipped = random.Random(derive(request.seed, "slip"))
        if text.startswith("<|ACTION|>") and slipped.random() < self._slip:
            return _print(Commit(slipped.choice(_actions())))
        return text


@lru_cache(maxsize=1)
def _recipes() -> dict[str, Recipe]:
    """What things cost, as the game tells every agent; the small policy learns it by heart."""
    from automem_envs.crafter.rules import instruction

    return read_recipes(instruction())


@lru_cache(maxsize=1)
def _actions() -> tuple[str, ...]:
    from automem_envs.crafter.rules import ACTIONS

    return ACTIONS
