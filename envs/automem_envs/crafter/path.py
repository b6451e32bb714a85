"""Finding a way over squares that are mostly unknown: what is not known to be blocked is free.

Pure functions of the scripted player; bounded to a small window so that a decision stays cheap.
"""

from collections import deque
from collections.abc import Callable, Collection

from automem_envs.crafter.notes import STEP, Place, neighbour

_REACH = 6
"""Squares in each direction that a search looks at."""


def distance(one: Place, other: Place) -> int:
    """Steps between two squares."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def first_step(
    start: Place,
    targets: Collection[Place],
    is_passable: Callable[[Place], bool],
    penalty: dict[Place, int],
) -> str | None:
    """Heading of the first step of a way to, or as near as can be to, one of `targets`.

    Targets themselves may be blocked (one walks up to a tree). `penalty` makes squares look
    further from the target than they are. None where no step helps."""
    came: dict[Place, str] = {start: ""}
    queue = deque([(start, 0)])
    best: tuple[float, str] | None = None
    steps_to = {heading: neighbour(start, heading) for heading in STEP}
    while queue:
        here, length = queue.popleft()
        for heading in STEP:
            there = neighbour(here, heading)
            if there in came:
                continue
            if abs(there[0] - start[0]) > _REACH or abs(there[1] - start[1]) > _REACH:
                continue
            is_target = there in targets
            if not is_target and not is_passable(there):
                continue
            first = came[here] or heading
            came[there] = first
            if is_target:
                return first
            left = min(distance(there, target) for target in targets)
            score = left + 0.3 * length + penalty.get(there, 0) + penalty.get(steps_to[first], 0)
            if best is None or score < best[0]:
                best = (score, first)
            queue.append((there, length + 1))
    return best[1] if best else None
