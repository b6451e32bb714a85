"""What memory is worth to the scripted players: each beside its memoryless twin, seed by seed.

    python benchmarks/twins.py                                  # Crafter and NetHack, 30 seeds each
    python benchmarks/twins.py --worlds nethack --steps 500

A twin is the same code with its reads blanked: it writes as before and sees none of it, so that the
two differ in memory alone. Both play the same seeds of the range `report` that nothing else here
plays (from the 1000th on), on the starting scaffold, through real sessions. Reported is the mean
paired difference with its 95 % bootstrap interval, whatever it is. It compares a program with
itself: how much this player leans on its files, not what memory is worth to a model.
Writes benchmarks/results/twins.json (worlds that were not played keep their last results).
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from automem.agent.roles import RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.config import compose, scaffold_path
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.seeds import seeds_from
from automem.trace.statistics import Estimate, estimate, paired_difference
from automem_learners.pretrain.play import Game, Played, play_all

RESULTS = Path(__file__).parent / "results" / "twins.json"
_OFFSET = 1000
_AT_ONCE = 6


@dataclass(frozen=True)
class Side:
    """One of the two players."""

    progression: Estimate
    steps: float
    """Mean per episode."""
    values: list[float]
    seconds: float


def play(world: str, reads: bool, seeds: list[int], steps: int) -> Side:
    """Every seed once."""
    config = compose("config", [f"env={world}", "engine=scripted"])
    player = instantiate(config.env.player, reads=reads)
    binding = RoleBinding(ScriptedEngine(player), ApproximateCounter())
    scaffold = load_scaffold(scaffold_path("v0"))
    target: dict[str, Any] = {**config.env.world, "max_steps": steps}
    games = (
        Game(instantiate(target), seed, 0, scaffold, Roles(binding, binding)) for seed in seeds
    )
    began, done = time.perf_counter(), 0

    def tell(played: Played) -> None:
        nonlocal done
        done += 1
        print(
            f"{world}, {'player' if reads else 'twin'}: {done} of {len(seeds)}, "
            f"seed {played.seed} {played.progression:.4f} in {played.steps} steps",
            flush=True,
        )

    played = asyncio.run(play_all(games, _AT_ONCE, tell))
    values = [game.progression for game in played]
    mean = sum(game.steps for game in played) / len(played)
    return Side(estimate(values), round(mean, 1), values, round(time.perf_counter() - began, 1))


def compare(world: str, count: int, steps: int) -> dict[str, Any]:
    """One world's entry."""
    seeds = seeds_from("report", count, _OFFSET)
    player, twin = (play(world, reads, seeds, steps) for reads in (True, False))
    gap = paired_difference(player.values, twin.values)
    gaps = [one - other for one, other in zip(player.values, twin.values, strict=True)]
    return {
        "seeds": [seeds[0], seeds[-1]],
        "max_steps": steps,
        "scaffold": load_scaffold(scaffold_path("v0")).version,
        "player": _plain(player),
        "twin": _plain(twin),
        "difference": _estimate(gap),
        "better": sum(value > 0 for value in gaps),
        "equal": sum(value == 0 for value in gaps),
        "worse": sum(value < 0 for value in gaps),
    }


def _plain(side: Side) -> dict[str, Any]:
    values = [round(value, 4) for value in side.values]
    return {**_estimate(side.progression), "steps": side.steps, "values": values}


def _estimate(value: Estimate) -> dict[str, Any]:
    ends = [round(end, 4) for end in value.ci95] if value.ci95 else None
    return {"mean": round(value.mean or 0.0, 4), "ci95": ends}


def show(world: str, entry: dict[str, Any]) -> None:
    for name in ("player", "twin", "difference"):
        low, high = entry[name]["ci95"] or (0.0, 0.0)
        print(f"{world:8s} {name:10s} {entry[name]['mean']:+.4f} ({low:+.4f} to {high:+.4f})")
    print(f"{entry['better']} better, {entry['equal']} equal, {entry['worse']} worse")


def main() -> None:
    """Play, print, write after each world."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--worlds", nargs="+", default=["crafter", "nethack"])
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--steps", type=int, help="cap; default 2000 in Crafter, 500 elsewhere")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    for world in options.worlds:
        steps = options.steps or (2000 if world == "crafter" else 500)
        entry = compare(world, options.episodes, steps)
        show(world, entry)
        if not options.no_write:
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            known[world] = entry
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
            print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
