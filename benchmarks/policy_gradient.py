"""Does a policy-gradient update improve on a specialist that selection and training made?

    python benchmarks/policy_gradient.py [--specialist shipped] [--updates 2] [--out FILE]

The shipped specialist keeps memory for the frozen base on `train` decks, several games of each. A
memory turn's advantage is the progression that followed it, less the mean of what followed that
step in the games of the same deck (group-relative). One clipped update, then the next games are
played by its result. Beside it the same updates with the advantages shuffled among turns, which
have everything but the credit. All then play the same `report` decks with the same sampling; the
table has each arm's paired difference to the specialist that it started from.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from automem.cli import main as automem
from automem.engine.models import find_adapter
from automem.seeds import SeedRange, seeds_from
from automem.trace.query import query
from automem.trace.statistics import estimate, paired_difference
from automem_learners.build import build_dataset
from automem_learners.dataset import DataKind, Dataset, load_dataset
from automem_learners.policy_gradient import ClippedSurrogate, group_relative, improve
from automem_learners.recipe import read_recipe
from automem_learners.select.controls import AllSelector
from automem_learners.select.run import select
from automem_learners.select.selection import read_selection
from automem_learners.select.thinning import Thinning

BASE = "embedded"
RECIPE = {
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.0, "targets": "all"},
    "conversations_per_step": 128,
    "epochs": 1,
    "schedule": "constant",
    "warmup": 0.0,
}


def play(run: Path, specialist: Path, seeds: Sequence[int], games: int) -> Path:
    """`games` episodes of these seeds: several of each where there are more games than seeds."""
    words = [
        "rollout", "env=concentration", f"engine.model={BASE}", f"specialist={specialist}",
        f"rollout.seeds={list(seeds)}".replace(" ", ""), f"rollout.episodes={games}",
        "rollout.workers=1", f"run.dir={run}",
    ]  # fmt: skip
    if automem(words):
        raise SystemExit(f"the rollout in {run} failed")
    return run


def every_turn(run: Path, folder: Path) -> Dataset:
    """All memory turns of a run, with the tokens and log-probabilities that were recorded."""
    select([run], AllSelector(), Thinning(0, 0, 0.0), folder / "selection")
    out = folder / "dataset"
    build_dataset(
        read_selection(folder / "selection"), out, base_model=BASE, kind=DataKind.EXACT,
        dialect="tags",
    )  # fmt: skip
    return load_dataset(out)


def advantages_of(dataset: Dataset, run: Path) -> list[float]:
    """Progression after each turn's step, relative to the other games of the deck at that step."""
    rows = query(
        [run],
        """select episode, step, sum(gain) over (partition by episode order by step
                  rows between current row and unbounded following) from steps""",
    ).rows
    following = {(episode, step): float(gain or 0.0) for episode, step, gain in rows}
    keys = sorted({(row.episode, row.seed, row.step) for row in dataset.conversations})
    values = [following.get((episode, step), 0.0) for episode, _, step in keys]
    scaled = group_relative(values, [(seed, step) for _, seed, step in keys])
    by_place = {(key[0], key[2]): value for key, value in zip(keys, scaled, strict=True)}
    return [by_place[row.episode, row.step] for row in dataset.conversations]


def progressions(run: Path) -> list[float]:
    """By world seed; a failed game stops the comparison."""
    rows = query([run], "select progression, failed from episodes order by seed").rows
    if any(failed for _, failed in rows):
        raise SystemExit(f"a game in {run} failed")
    return [float(progression) for progression, _ in rows]


def updated(arguments: argparse.Namespace, folder: Path, start: Path, is_shuffled: bool) -> Path:
    """The specialist after every update."""
    specialist = start
    for number in range(arguments.updates):
        here = folder / f"update-{number + 1}"
        first = number * arguments.decks
        seeds = seeds_from(SeedRange.TRAIN, first + arguments.decks)[first:]
        run = play(here / "run", specialist, seeds, arguments.decks * arguments.replicates)
        dataset = every_turn(run, here)
        advantages = advantages_of(dataset, run)
        if is_shuffled:
            random.Random(number).shuffle(advantages)
        recipe = read_recipe({**RECIPE, "learning_rate": arguments.learning_rate, "seed": number})
        made = improve(
            dataset, advantages, recipe, BASE, here / "specialist", ClippedSurrogate(),
            start=specialist,
        )  # fmt: skip
        print(f"update {number + 1}: {len(advantages)} turns, {made.steps} steps, {made.report}")
        specialist = here / "specialist" / made.path
    return specialist


def main() -> None:
    """Collect, update, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--specialist", default="shipped", help="folder, or `shipped`")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--decks", type=int, default=24)
    parser.add_argument("--replicates", type=int, default=4, help="games of each deck")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--games", type=int, default=64, help="report decks")
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="automem-policy-gradient-"))
    start = Path(find_adapter(arguments.specialist)[1])
    arms = {
        "specialist": start,
        "policy gradient": updated(arguments, folder / "credit", start, False),
        "control: shuffled advantages": updated(arguments, folder / "shuffled", start, True),
    }
    seeds = seeds_from(SeedRange.REPORT, arguments.games)
    played = {
        name: progressions(play(folder / f"arm-{number}", arm, seeds, arguments.games))
        for number, (name, arm) in enumerate(arms.items())
    }
    table = Table(title=f"{arguments.games} report decks, {arguments.updates} update(s)")
    for column in ("arm", "progression", "95 % interval", "minus specialist", "95 % interval"):
        table.add_column(column)
    figures = {}
    for name, found in played.items():
        mean, gain = estimate(found), paired_difference(found, played["specialist"])
        figures[name] = {"progression": mean.mean, "ci95": mean.ci95, "games": len(found),
                         "difference": gain.mean, "difference_ci95": gain.ci95}  # fmt: skip
        table.add_row(name, f"{mean.mean:.3f}", _range(mean.ci95), f"{gain.mean:+.3f}",
                      "" if name == "specialist" else _range(gain.ci95))  # fmt: skip
    Console().print(table)
    if arguments.out is not None:
        settings = {name: value for name, value in vars(arguments).items()
                    if isinstance(value, int | float | str)}  # fmt: skip
        arguments.out.write_text(json.dumps({"settings": settings, "arms": figures}, indent=1))


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


if __name__ == "__main__":
    main()
