"""Boxoban levels of our own: four boxes in a walled 10 x 10 room, solvable by construction.

A room is carved by a random walk of small strokes and goals are placed in it. Then the puzzle is
played backwards from its solved states, breadth first: a box is pulled wherever it could have been
pushed from. Every state met can be solved, by as many pushes as it is deep, and no fewer. A level
is a state deep enough for its difficulty whose solution fits the published cap of 100 actions.

The original collection was filtered by what trained agents failed at; this one by the number of
pushes. `python -m automem_envs.minihack.generator hard 64` prints levels in the collection's
format.
"""

import random
import sys
from collections import deque
from typing import NamedTuple

from automem.seeds import derive
from automem_envs.minihack.sokoban import (
    MOVES,
    SIZE,
    Level,
    Push,
    reach,
    squares,
    walk_out,
    write_level,
)

BOXES = 4
MOST_MOVES = 95
"""The published cap is 100 actions; the solution has to fit."""
_ROOM = (22, 34)
"""Fewest and most squares of floor: tight enough to be hard, small enough to be searched."""
_STATES = 30_000
"""Visited per room at most."""
_MOVES = tuple(MOVES.values())


class Difficulty(NamedTuple):
    """Bounds of the fewest pushes that solve a level."""

    least_pushes: int
    most_pushes: int


DIFFICULTIES = {"medium": Difficulty(10, 16), "hard": Difficulty(18, 60)}

State = tuple[int, int]
"""(boxes, squares that the player can reach)."""


class Made(NamedTuple):
    """A level and the solution that proves it."""

    level: Level
    moves: list[str]


def generate(difficulty: str, seed: int) -> Made:
    """The level of `seed`: a function of both arguments. Takes 0.06 s on average."""
    bounds = DIFFICULTIES[difficulty]
    draw = random.Random(derive("boxoban", difficulty, seed))
    while True:
        floor = _carve(draw)
        ground = list(squares(floor))
        if not _ROOM[0] <= len(ground) <= _ROOM[1]:
            continue
        goals = sum(1 << square for square in draw.sample(ground, BOXES))
        pulled = _play_backwards(floor, goals)
        deep = [
            state
            for state, (depth, _, _) in pulled.items()
            if bounds.least_pushes <= depth <= bounds.most_pushes
            and not state[0] & goals
            and state[1] & ~goals
        ]
        for state in draw.sample(deep, min(len(deep), 8)):
            made = _level_of(draw, floor, goals, state, pulled)
            if len(made.moves) <= MOST_MOVES:
                return made


Pulled = dict[State, tuple[int, State | None, Push]]
"""State to (pushes that solve it, the state after the first of them, that push)."""


def _play_backwards(floor: int, goals: int) -> Pulled:
    found: Pulled = {}
    queue: deque[State] = deque()
    left = floor & ~goals
    while left:
        region = reach(floor & ~goals, next(squares(left)))
        left &= ~region
        found[goals, region] = (0, None, (0, 0))
        queue.append((goals, region))
    while queue and len(found) < _STATES:
        state = queue.popleft()
        boxes, region = state
        depth = found[state][0] + 1
        free = floor & ~boxes
        for box in squares(boxes):
            for step in _MOVES:
                # Pushed by `step` from `before`, the player standing at `behind`.
                before, behind = box - step, box - 2 * step
                if not (region >> before & 1 and free >> behind & 1):
                    continue
                earlier = boxes ^ (1 << box) ^ (1 << before)
                previous = (earlier, reach(floor & ~earlier, behind))
                if previous not in found:
                    found[previous] = (depth, state, (before, step))
                    queue.append(previous)
    return found


def _level_of(draw: random.Random, floor: int, goals: int, state: State, pulled: Pulled) -> Made:
    """A level that starts in `state`, the player anywhere it can reach but on a goal: NetHack
    starts nobody on a fountain."""
    boxes, region = state
    level = Level(floor, goals, boxes, draw.choice(list(squares(region & ~goals))))
    pushes: list[Push] = []
    following: State | None = state
    while following is not None:
        depth, following, push = pulled[following]
        if depth:
            pushes.append(push)
    return Made(level, walk_out(level, pushes))


def _carve(draw: random.Random) -> int:
    """Floor by a walk that sets a stroke of up to three squares at each step."""
    floor = 0
    x, y = draw.randrange(2, SIZE - 2), draw.randrange(2, SIZE - 2)
    direction = draw.choice(_MOVES)
    for _ in range(draw.randrange(14, 26)):
        if draw.random() < 0.45:
            direction = draw.choice(_MOVES)
        dx, dy = (direction, 0) if abs(direction) == 1 else (0, direction // SIZE)
        x, y = min(max(x + dx, 1), SIZE - 2), min(max(y + dy, 1), SIZE - 2)
        for across in draw.choice(((0,), (0, 1), (-1, 0, 1))):
            i, j = (x, y + across) if dx else (x + across, y)
            if 0 < i < SIZE - 1 and 0 < j < SIZE - 1:
                floor |= 1 << (SIZE * j + i)
    return floor


def main(difficulty: str, count: int) -> None:
    """Print the levels of the first `count` seeds; to the error stream, how long each takes."""
    for seed in range(count):
        level, moves = generate(difficulty, seed)
        print(f"; {seed}", *write_level(level), "", sep="\n", flush=True)
        print(f"{difficulty} {seed}: {len(moves)} moves", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
