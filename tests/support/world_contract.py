"""What every world must show, whatever it is: run by the tests of each.

Run as a program (`python -m support.world_contract RUN_DIR JSON`) it plays a rollout that a test
kills: JSON holds `world` and `player` targets and `max_steps`.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from support.drivers import TESTS, assert_same_traces
from support.toy_world import toy_spec

from automem.rollout.run import resume_run, run_rollout
from automem.rollout.spec import EngineSpec, WorldSpec
from automem.world import World, progression_of

Target = dict[str, Any]

_TRACE = """
import hashlib, json, random, sys
from hydra.utils import instantiate
target, actions = json.loads(sys.argv[1])
world = instantiate(target, _convert_="all")
for seed in (1, 2, 3):
    digest, draw, resets = hashlib.sha256(), random.Random(seed), 0
    text, info = world.reset(seed=seed)
    for _ in range(500):
        digest.update(repr((text, sorted(info.items()))).encode())
        text, *rest, info = world.step(draw.choice(actions))
        digest.update(repr(rest).encode())
        if rest[1] or rest[2]:
            resets += 1
            text, info = world.reset(seed=1000 * seed + resets)
    print(digest.hexdigest())
"""


def assert_same_in_every_process(target: Target, actions: list[str]) -> None:
    """3 seeds x 500 actions in two processes that hash differently."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _TRACE, json.dumps([target, actions])],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2024")
    ]
    digests = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert digests[0] == digests[1]
    assert len(set(digests[0].split())) == 3, "seeds make no difference"


def assert_takes_anything(
    target: Target,
    actions: list[str],
    count: int = 10_000,
    least_invalid: float = 0.25,
    says: str | None = None,
) -> None:
    """Arbitrary strings: no exception; an invalid one does what the fallback does, and the next
    observation says so first, naming the fallback (or in the words of `says`)."""
    world: World = instantiate(target, _convert_="all")
    twin: World = instantiate(target, _convert_="all")
    assert isinstance(world, World)
    draw = random.Random(5)
    seed, invalid = 0, 0
    assert world.reset(seed=seed) == twin.reset(seed=seed)
    for _ in range(count):
        action = _anything(draw, actions)
        text, *rest, info = world.step(action)
        assert 0.0 <= progression_of(info) <= 1.0
        if is_invalid := info.pop("invalid_action", False):
            invalid += 1
            told, _, text = text.partition("\n")
            assert told.isprintable()
            assert (says or world.fallback_action) in told, told
        done = world.fallback_action if is_invalid else action
        assert (text, *rest, info) == twin.step(done), repr(action)
        if rest[1] or rest[2]:
            seed += 1
            assert world.reset(seed=seed) == twin.reset(seed=seed)
    assert invalid > least_invalid * count


def _anything(draw: random.Random, actions: list[str]) -> str:
    """Noise, or a valid action with something wrong with it."""
    kind = draw.randrange(5)
    if kind == 0:
        return "".join(chr(draw.randrange(0x11_0000)) for _ in range(draw.randrange(12)))
    if kind == 1:
        return "".join(chr(draw.randrange(128)) for _ in range(draw.randrange(200)))
    action = draw.choice(actions)
    if kind == 2:
        place = draw.randrange(len(action) + 1)
        return action[:place] + chr(draw.randrange(1, 256)) + action[place:]
    if kind == 3:
        return action * draw.choice([0, 2, 5_000])
    return f"\n {action.upper()}\t"


def spec_of(target: Target, player: Target, max_steps: int) -> Any:
    """A rollout of one episode in this process."""
    engine = {"_target_": "automem.engine.scripted.ScriptedEngine", "player": player}
    return toy_spec(
        world=WorldSpec("world", target),
        engines={"base": EngineSpec(target=engine, placement="worker")},
        seeds=[1],
        max_steps=max_steps,
    )


def assert_killed_episode_resumes(
    target: Target,
    player: Target,
    folder: Path,
    max_steps: int = 25,
    crash: str = "event.commit:12",
) -> None:
    """Kill -9 inside the episode; resumed, its trace is that of an undisturbed one."""
    changes = {"target": target, "player": player, "max_steps": max_steps}
    assert run_rollout(spec_of(**changes), folder / "whole").is_complete
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [sys.executable, "-m", "support.world_contract", str(folder / "run"), json.dumps(changes)],
        env={**os.environ, "AUTOMEM_CRASH": crash, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert resume_run(folder / "run").is_complete
    assert_same_traces(folder / "run", folder / "whole")


if __name__ == "__main__":
    run_rollout(spec_of(**json.loads(sys.argv[2])), Path(sys.argv[1]))
