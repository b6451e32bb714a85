"""A loop that collects while it trains, in a process of its own, to be killed: real games.

`python -m support.collect_driver FOLDER`. Every round is accepted or not as real games decide."""

import sys
from pathlib import Path

from support.loop_parts import SkillTrainer, make_loop, recipe, small_stage

from automem.loops.collection import Collection

ROUNDS = 3
WANT = 4
COLLECTION = Collection(mode="asynchronous", part=2, max_staleness=2, stale="weight")


def main(folder: Path) -> None:
    recipes = [recipe(skill, episodes=WANT) for skill in ("good", "bad", "good")]
    make_loop(
        folder, *recipes, stage=small_stage(), trainer=SkillTrainer(), collection=COLLECTION
    ).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
