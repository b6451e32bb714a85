"""Steps per second of the Crafter text world, beside the original that draws pictures.

    python benchmarks/crafter_steps.py [steps]

Random actions; resets are timed apart. The first reset ever compiles the terrain noise (about five
seconds) and leaves the result in numba's cache.
"""

import random
import sys
import time
from collections.abc import Callable

import crafter

from automem_envs.crafter import CrafterWorld
from automem_envs.crafter.rules import ACTIONS


def steps_per_second(
    step: Callable[[int], bool], reset: Callable[[int], object], count: int
) -> tuple[float, float]:
    """(steps/s, mean seconds per reset) over `count` random actions."""
    draw = random.Random(0)
    reset(0)
    stepping = resetting = 0.0
    resets = 0
    for number in range(count):
        start = time.perf_counter()
        done = step(draw.randrange(len(ACTIONS)))
        stepping += time.perf_counter() - start
        if done or number == 0:
            start = time.perf_counter()
            reset(number)
            resetting += time.perf_counter() - start
            resets += 1
    return count / stepping, resetting / resets


def main() -> None:
    """Print one line for each of the two."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    world = CrafterWorld()

    def text_step(number: int) -> bool:
        _, _, terminated, truncated, _ = world.step(ACTIONS[number])
        return terminated or truncated

    pictures = crafter.Env(seed=0)
    for name, step, reset in (
        ("text world", text_step, lambda seed: world.reset(seed=seed)),
        ("rendered original", lambda number: pictures.step(number)[2], lambda _: pictures.reset()),
    ):
        speed, seconds = steps_per_second(step, reset, count)
        print(f"{name:18s} {speed:7.0f} steps/s  {seconds:.3f} s per reset")


if __name__ == "__main__":
    main()
