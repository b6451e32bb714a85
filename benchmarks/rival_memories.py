"""Rival memories on the embedded game: the same session, engine, decks and tokens, another memory.

The arms of conf/run/embedded.yaml on the starting scaffold with the shipped base in both roles, and
beside them the files as they are: kept by the base, by the shipped specialist (one training), by
perfect habits with the base acting. 50 `report` decks, intervals by bootstrap over them. Takes
about 75 s an arm on two idle cores; finished games are kept in the folder and not played again:
take another one for another base.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import OmegaConf
from rich.console import Console

from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.models import find_adapter
from automem.loops.arm_results import ArmResult, arm_result
from automem.loops.experiment import commit
from automem.loops.recipes import Specialist
from automem.loops.results_table import arms_table
from automem.loops.stage import Arm, Played, Stage, read_arm
from automem.seeds import seeds_from
from automem.suggest import no_such

RESULTS = Path(__file__).parent / "results" / "rival_memories.json"
BASE: dict[str, Any] = {"base": {}}
FILES = {
    "files, shipped specialist": {"memory": "champion"},
    "files, perfect habits (script)": {
        "memory": "player",
        "player": {"_target_": "automem_envs.concentration.players.PerfectMemoryPlayer"},
    },
}


def main() -> None:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arms", nargs="*", metavar="ARM", help="only these; nothing is written")
    parser.add_argument("--folder", type=Path, default=Path("runs/rival-memories"))
    parser.add_argument("--scaffold", help="another than the starting one; with ARM only")
    options = parser.parse_args()
    if options.scaffold and not options.arms:
        parser.error("--scaffold needs an ARM: the written table is that of the starting scaffold")
    began = time.monotonic()
    overrides = ["experiment=embedded"]
    if options.scaffold:
        overrides.append(f"scaffold={Path(options.scaffold).resolve()}")
    tree: Any = OmegaConf.to_container(compose("run", overrides), resolve=True)
    rivals = {name: {"agent": agent} for name, agent in tree["rivals"].items()}
    arms = {name: read_arm(arm, name) for name, arm in {**BASE, **rivals, **FILES}.items()}
    for name in options.arms:
        if name not in arms:
            parser.error(no_such("ARM", name, arms))
    chosen = {name: arm for name, arm in arms.items() if name in ("base", *(options.arms or arms))}
    template = spec_from(compose("config", [*overrides, "rollout.workers=0"]))
    stage = Stage(template, None)
    adapter, path = find_adapter("shipped")
    shipped = Specialist(
        name=adapter, path=path, is_adapter=True, steps=0, conversations=0,
        last_loss=0, tokens_per_s=0, seconds=0,
    )  # fmt: skip
    seeds = seeds_from("report", tree["games"])
    played: dict[str, dict[int, Played]] = {}
    for arm_name, arm in chosen.items():
        specialist = shipped if arm.memory == "champion" else None
        folder = options.folder / arm_name.replace(" ", "-").replace(",", "")
        found = stage.play(folder, arm, specialist, seeds, arm_name)
        played[arm_name] = {-1: found}
        print(f"{arm_name}: {sum(found.progressions.values()) / len(seeds):.3f}", flush=True)
        results = [arm_result(name, played, options.folder) for name in played]
        if not options.arms:
            write(results, arms, seeds, time.monotonic() - began)
    Console(width=120).print(arms_table("concentration: progression", results, 1))


def write(results: list[ArmResult], arms: dict[str, Arm], seeds: list[int], seconds: float) -> None:
    """What is there so far; written again after each arm."""
    data = {
        "commit": commit(),
        "seconds": round(seconds),
        "report_seeds": [seeds[0], seeds[-1]],
        "recall_tokens": "160 (result_tokens of the scaffold); full context: what 2048 leaves",
        "arms": msgspec.to_builtins(results, str_keys=True),
        "agent": {name: arm.agent for name, arm in arms.items() if arm.agent},
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
