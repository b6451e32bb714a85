"""Sokoban levels and a solver that proves them solvable.

A level is 10 x 10 in the signs of the Boxoban collection: `#` wall, ` ` floor, `$` box, `.` goal,
`@` player, `*` box on a goal. Squares are numbered row by row and sets of
squares are the bits of one integer, so that what the player can reach is found in a few operations.

`solve` is A* over pushes: its answer has the fewest pushes that exist. It gives up after `budget`
states, so None means "not proven", never "impossible".
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from automem.errors import UsageError

SIZE = 10
MOVES: dict[str, int] = {"north": -SIZE, "east": 1, "south": SIZE, "west": -1}
_FULL = (1 << (SIZE * SIZE)) - 1
_EDGE = sum(
    1 << (SIZE * y + x)
    for y in range(SIZE)
    for x in range(SIZE)
    if x in (0, SIZE - 1) or y in (0, SIZE - 1)
)
_FAR = 10_000


@dataclass(frozen=True)
class Level:
    """A level; walls close it in on all sides."""

    floor: int
    """Bits of all squares that are not wall."""
    goals: int
    boxes: int
    player: int
    """Number of the player's square."""

    @cached_property
    def distances(self) -> tuple[int, ...]:
        """For each square, the fewest pushes that bring a box from there to any goal, were it
        alone; `_FAR` where none does (a dead square)."""
        found = [_FAR] * (SIZE * SIZE)
        queue = deque(squares(self.goals))
        for goal in squares(self.goals):
            found[goal] = 0
        while queue:
            square = queue.popleft()
            for step in MOVES.values():
                # Pulled back from `square`: the player stands behind where the box comes from.
                before, behind = square - step, square - 2 * step
                is_inside = 0 <= behind < SIZE * SIZE and self.floor >> behind & 1
                if is_inside and self.floor >> before & 1 and found[before] == _FAR:
                    found[before] = found[square] + 1
                    queue.append(before)
        return tuple(found)


def squares(bits: int) -> Iterator[int]:
    """Numbers of the set squares, ascending."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def reach(free: int, player: int) -> int:
    """Squares that the player can walk to over `free`. The edge is never free."""
    seen = 1 << player
    while True:
        wider = (seen | seen << 1 | seen >> 1 | seen << SIZE | seen >> SIZE) & free
        if wider == seen:
            return seen
        seen = wider


def read_level(lines: Sequence[str]) -> Level:
    """A level from its ten lines. UsageError, saying what is wrong, where it is none."""
    if len(lines) != SIZE or any(len(line) != SIZE for line in lines):
        raise UsageError(f"a Boxoban level has {SIZE} lines of {SIZE} signs, got {list(lines)}")
    text = "".join(lines)
    unknown = sorted(set(text) - set("# $.@*"))
    if unknown:
        raise UsageError(f"a Boxoban level is written in '# $.@*', this one has {unknown}")
    bits = {
        sign: sum(1 << square for square, found in enumerate(text) if found == sign)
        for sign in "# $.@*"
    }
    floor = _FULL & ~bits["#"]
    players = list(squares(bits["@"]))
    boxes, goals = bits["$"] | bits["*"], bits["."] | bits["*"]
    if len(players) != 1 or not boxes or boxes.bit_count() != goals.bit_count():
        raise UsageError(
            "a Boxoban level has one player and as many boxes as goals, this one has "
            f"{len(players)}, {boxes.bit_count()} and {goals.bit_count()}"
        )
    if floor & _EDGE:
        raise UsageError("a Boxoban level is walled in, this one is open at its edge")
    return Level(floor, goals, boxes, players[0])


def write_level(level: Level) -> list[str]:
    """The ten lines of a level."""
    text = ""
    for square in range(SIZE * SIZE):
        is_goal, is_box = level.goals >> square & 1, level.boxes >> square & 1
        if not level.floor >> square & 1:
            text += "#"
        elif square == level.player:
            text += "@"
        elif is_box:
            text += "*" if is_goal else "$"
        else:
            text += "." if is_goal else " "
    return [text[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE)]


Push = tuple[int, int]
"""(square of the box, step it is pushed by)."""


def solve_pushes(level: Level, budget: int = 50_000) -> list[Push] | None:
    """The fewest pushes that bring every box to a goal; None after `budget` states."""
    distances = level.distances
    start = (level.boxes, reach(level.floor & ~level.boxes, level.player))
    first = sum(distances[box] for box in squares(level.boxes))
    if first >= _FAR:
        return None
    came: dict[tuple[int, int], tuple[tuple[int, int], Push] | None] = {start: None}
    cost = {start: 0}
    queue = [(first, first, *start)]
    done: set[tuple[int, int]] = set()
    while queue and len(done) < budget:
        # Equal sums: the state with the least still to do comes first.
        _, _, boxes, region = heapq.heappop(queue)
        state = (boxes, region)
        if boxes == level.goals:
            return _walk_back(came, state)
        if state in done:
            continue
        done.add(state)
        pushes = cost[state] + 1
        for box, step, after in _pushes(level, boxes, region):
            following = (after, reach(level.floor & ~after, box))
            if pushes < cost.get(following, _FAR):
                cost[following] = pushes
                came[following] = (state, (box, step))
                left = sum(distances[square] for square in squares(after))
                heapq.heappush(queue, (left + pushes, left, *following))
    return None


def _pushes(level: Level, boxes: int, region: int) -> Iterator[tuple[int, int, int]]:
    """(box, step, boxes after) of every push that is possible and not plainly fatal."""
    for box in squares(boxes):
        for step in MOVES.values():
            to = box + step
            if (
                region >> (box - step) & 1
                and level.floor >> to & 1
                and not boxes >> to & 1
                and level.distances[to] < _FAR
            ):
                yield box, step, boxes ^ (1 << box) ^ (1 << to)


def _walk_back(
    came: dict[tuple[int, int], tuple[tuple[int, int], Push] | None], state: tuple[int, int]
) -> list[Push]:
    pushes = []
    while (link := came[state]) is not None:
        state, push = link
        pushes.append(push)
    return pushes[::-1]


def solve(level: Level, budget: int = 50_000) -> list[str] | None:
    """The moves of a solution, in words: shortest walks between the fewest pushes."""
    pushes = solve_pushes(level, budget)
    return None if pushes is None else walk_out(level, pushes)


def walk_out(level: Level, pushes: Sequence[Push]) -> list[str]:
    """The moves that bring these pushes about: shortest walks between them."""
    moves: list[str] = []
    boxes, player = level.boxes, level.player
    names = {step: name for name, step in MOVES.items()}
    for box, step in pushes:
        moves += _walk(level.floor & ~boxes, player, box - step)
        moves.append(names[step])
        boxes ^= (1 << box) ^ (1 << (box + step))
        player = box
    return moves


def _walk(free: int, start: int, end: int) -> list[str]:
    """A shortest walk."""
    came: dict[int, tuple[int, str]] = {}
    queue = deque([start])
    while queue:
        square = queue.popleft()
        if square == end:
            break
        for name, step in MOVES.items():
            to = square + step
            if free >> to & 1 and to not in came and to != start:
                came[to] = (square, name)
                queue.append(to)
    moves = []
    while end != start:
        end, name = came[end]
        moves.append(name)
    return moves[::-1]
