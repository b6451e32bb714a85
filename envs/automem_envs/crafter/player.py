"""A scripted player of Crafter that works from text and its memory files alone.

It is stateless: every reply is a function of the request's messages. LOG notes each step in
`actions.txt`; every few steps it reads its notes back and distils them: places into `map.txt`
(keyed by kind and block of the map), achievements into `progress.txt`, where to explore next into
`strategy.txt`. PLAN reads these, looks up what it lacks in `map.txt`, and commits. It speaks the
`tags` dialect and reads prompts in the layout of the shipped scaffolds; without memory it plays
from the observation alone. With `reads=False` it is its own memoryless twin: the same code, which
writes as before and sees nothing of what it wrote.
"""

from collections.abc import Iterable

import msgspec

from automem.agent.prompt_view import PromptView, read_prompt
from automem.engine.protocol import GenerateRequest
from automem.memory.dialects.base import Commit, Done
from automem.memory.dialects.tags import TagsDialect
from automem.memory.ops import AnyOp, Append, Read, Search, Upsert, Write
from automem.trace.events import Routine
from automem_envs.crafter.atlas import (
    GONE,
    SEEN,
    block_of,
    blocks_seen,
    centre_of,
    gone_landmarks,
    is_stuck,
    landmarks,
    next_block,
    places_by_kind,
    read_keyed,
    write_place,
)
from automem_envs.crafter.decide import decide, wanted_kinds
from automem_envs.crafter.notes import (
    Place,
    Recalled,
    read_place,
    recall,
    write_position,
    write_step,
)
from automem_envs.crafter.recipes import read_recipes
from automem_envs.crafter.sight import Sight, read_sight
from automem_envs.crafter.walking import Known

ACTIONS_FILE = "actions.txt"
MAP_FILE = "map.txt"
PROGRESS_FILE = "progress.txt"
STRATEGY_FILE = "strategy.txt"
KEPT_STEPS = 8
"""Steps that stay in `actions.txt` when it is distilled."""
DISTIL_AT = 16
"""Lines of `actions.txt` at which it is."""
_MOST_OPERATIONS = 16
"""In one turn; the starting scaffold allows no more."""
_GOAL_KEY = "explore"
_AVOID_KEY = "no way on at"
_NO_WAY = "no way there"
_NO_WAY_YET = "no way there without a pickaxe"
_DIALECT = TagsDialect()


class CrafterPlayer:
    """See the module's docstring; implements `automem.engine.scripted.Player`."""

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads

    def reply(self, request: GenerateRequest) -> str:
        """The text of one turn."""
        view = read_prompt(request.messages)
        if not self.reads:
            view = msgspec.structs.replace(view, results=[], shown={}, files={})
        sight = read_sight(view.observation)
        if view.routine is Routine.LOG:
            return _log(view, sight)
        if view.turns == 0 and not view.wants_commit:
            # Showing a commit ends the consulting; the real choice follows the results.
            return _print(_look_ups(view, sight), Commit("Noop"))
        instruction = request.messages[0].content
        return _print((), Commit(decide(_known(view, sight, instruction))))


def _print(operations: Iterable[AnyOp], last: Commit | Done | None = None) -> str:
    values = [*operations, *([] if last is None else [last])]
    return "\n".join(_DIALECT.print(value) for value in values)


def _look_ups(view: PromptView, sight: Sight) -> list[AnyOp]:
    """What PLAN reads: its own notes, and places of what it lacks."""
    operations: list[AnyOp] = [
        Read(name)
        for name in (ACTIONS_FILE, PROGRESS_FILE, STRATEGY_FILE)
        if view.files.get(name) and name not in view.shown
    ]
    if view.files.get(MAP_FILE):
        operations += [Search(MAP_FILE, f"{kind} ") for kind in wanted_kinds(sight)]
    return operations


def _known(view: PromptView, sight: Sight, instruction: str) -> Known:
    lines = _lines_of(view, ACTIONS_FILE)
    recalled = recall(lines or [write_step("Noop", sight)])
    done = recalled.achieved | _achieved(view)
    found = [line for result in view.results if result.name == "SEARCH" for line in result.lines]
    return Known(
        sight=sight,
        recalled=recalled,
        done=done,
        places=places_by_kind(found),
        goal=_strategy(view, _GOAL_KEY),
        avoid=_strategy(view, _AVOID_KEY),
        recipes=read_recipes(instruction),
    )


def _lines_of(view: PromptView, file: str) -> list[str]:
    """A file's lines, from the last reading of it or from the prompt."""
    for result in reversed(view.results):
        if result.name == "READ" and result.file == file:
            return list(result.lines)
    return view.shown.get(file, [])


def _achieved(view: PromptView) -> set[str]:
    return {
        line.removesuffix(": done")
        for line in _lines_of(view, PROGRESS_FILE)
        if line.endswith(": done")
    }


def _strategy(view: PromptView, key: str) -> Place | None:
    """The place that a line of the strategy file names."""
    for line in _lines_of(view, STRATEGY_FILE):
        name, _, text = line.partition(": ")
        if name == key:
            return read_place(text)
    return None


def _log(view: PromptView, sight: Sight) -> str:
    """What LOG does: note the step; now and then read the notes back and distil them."""
    step = write_step(view.action, sight)
    length = view.files.get(ACTIONS_FILE, 0)
    if 0 < length < DISTIL_AT:
        return _print([Append(ACTIONS_FILE, step)], Done())
    if view.turns == 0 and length:
        return _print([Read(ACTIONS_FILE), Read(PROGRESS_FILE), Read(STRATEGY_FILE)])
    recalled = recall([*_lines_of(view, ACTIONS_FILE), step])
    if view.turns == 1:
        block = write_place(block_of(recalled.place))
        return _print([Search(MAP_FILE, f"{SEEN} "), Search(MAP_FILE, f" {block}: ")])
    return _print(_distilled(view, recalled)[:_MOST_OPERATIONS], Done())


def _distilled(view: PromptView, recalled: Recalled) -> list[AnyOp]:
    """Writes that shorten the notes and keep what matters of them, most important first."""
    kept = min(KEPT_STEPS, len(recalled.steps))
    lines = [write_position(recalled.trail[-kept])]
    lines += [write_step(noted.action, noted.sight) for noted in recalled.steps[-kept:]]
    remembered = read_keyed(
        line for result in view.results if result.name == "SEARCH" for line in result.lines
    )
    no_way = _NO_WAY if "wood pickaxe" in recalled.steps[-1].sight.inventory else _NO_WAY_YET
    blocks = {block: text for (word, block), text in remembered.items() if word == SEEN}
    seen = {block for block, text in blocks.items() if text == "yes"}
    barred = {block for block, text in blocks.items() if text == no_way}
    goal = _strategy(view, _GOAL_KEY)
    found = dict.fromkeys(sorted(blocks_seen(recalled) - seen), "yes")
    seen |= set(found)
    operations: list[AnyOp] = [Write(ACTIONS_FILE, "\n".join(lines))]
    if is_stuck(recalled):
        operations.append(Upsert(STRATEGY_FILE, _AVOID_KEY, write_place(recalled.place)))
        if goal is not None:
            found[block_of(goal)] = no_way
            barred.add(block_of(goal))
    for name in sorted(recalled.achieved - _achieved(view)):
        operations.append(Upsert(PROGRESS_FILE, name, "done"))
    if goal is None or block_of(goal) in seen | barred:
        operations += _new_goal(recalled, seen, barred)
    for block, text in found.items():
        operations.append(Upsert(MAP_FILE, f"{SEEN} {write_place(block)}", text))
    for kind, block in gone_landmarks(remembered, recalled):
        operations.append(Upsert(MAP_FILE, f"{kind} {write_place(block)}", GONE))
    for (kind, block), place in sorted(landmarks(recalled).items()):
        if remembered.get((kind, block)) != write_place(place):
            operations.append(Upsert(MAP_FILE, f"{kind} {write_place(block)}", write_place(place)))
    return operations


def _new_goal(recalled: Recalled, seen: set[Place], barred: set[Place]) -> list[AnyOp]:
    """Where to explore next, as a line of the strategy file."""
    start, end = recalled.trail[0], recalled.trail[-1]
    direction = (_sign(end[0] - start[0]), _sign(end[1] - start[1]))
    block = next_block(recalled.place, seen, barred, direction)
    if block is None:
        return []
    return [Upsert(STRATEGY_FILE, _GOAL_KEY, write_place(centre_of(block)))]


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
