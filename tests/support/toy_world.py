"""A world and a player to break on purpose: deterministic, quick, with faults by parameter."""

import ctypes
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from automem.agent.prompt_view import read_prompt
from automem.engine.protocol import Capabilities, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem.trace.events import Routine


class ToyWorld:
    """Say the lamp's colour back: right answers move progression. Text long enough for blobs."""

    def __init__(
        self,
        max_steps: int = 12,
        step_s: float = 0.0,
        hang_seed: int = -1,
        hang_step: int = 5,
        hang_file: str = "",
        raise_step: int = -1,
        raise_file: str = "",
        drift_file: str = "",
    ) -> None:
        """`hang_seed` hangs at `hang_step`, holding the interpreter, as a broken C extension does;
        with a file only while that does not exist (it is made then). `raise_step` raises likewise.
        `drift_file`: counts resets; from the second on the world says something else."""
        self.actions = ("red", "green", "blue")
        self.fallback_action = "red"
        self.instruction = "say the lamp's colour " + "and nothing else " * 10
        self.max_steps = max_steps
        self._step_s = step_s
        self._hang = (hang_seed, hang_step, hang_file)
        self._raise = (raise_step, raise_file)
        self._drift_file = drift_file
        self._seed = self._steps = self._right = 0
        self._drift = ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self._seed, self._steps, self._right = seed or 0, 0, 0
        if self._drift_file and not _first(self._drift_file):
            self._drift = " drifting"
        return self._text(), {"progression": 0.0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._step_s:
            time.sleep(self._step_s)
        seed, step, file = self._hang
        if seed == self._seed and step == self._steps and (not file or _first(file)):
            ctypes.PyDLL(None).sleep(10_000)
        if self._raise[0] == self._steps and (not self._raise[1] or _first(self._raise[1])):
            raise RuntimeError("the lamp broke")
        is_right = action == self._lamp()
        self._right += is_right
        self._steps += 1
        info: dict[str, Any] = {"progression": self._right / self.max_steps}
        if action not in self.actions:
            info["invalid_action"] = True
        return self._text(), float(is_right), False, False, info

    def close(self) -> None:
        pass

    def _lamp(self) -> str:
        digest = hashlib.sha256(f"{self._seed}/{self._steps}".encode()).digest()
        return self.actions[digest[0] % 3]

    def _text(self) -> str:
        hall = "the hall is long and dark; at its far end there hangs a lamp of coloured glass; "
        return f"{hall}step {self._steps} lamp {self._lamp()}{self._drift}"


class ToyPlayer:
    """Keeps a diary, looks into it, and says the lamp's colour most of the time."""

    def __init__(self, dies_file: str = "") -> None:
        """With a file the process of whoever answers at step 6 first dies, once."""
        self._dies_file = dies_file

    def reply(self, request: GenerateRequest) -> str:
        if self._dies_file and "/6/" in request.id and _first(self._dies_file):
            os.kill(os.getpid(), signal.SIGKILL)
        view = read_prompt(request.messages)
        lamp = view.observation.rsplit("lamp ", 1)[-1].split()[0]
        if view.routine is Routine.LOG:
            step = view.observation.split("step ")[-1].split()[0]
            note = f"{step} {view.action} {lamp}"
            return (
                f"<|APPEND|>actions.txt|{note}<|END|><|UPSERT|>map.txt|{lamp}|{step}<|END|><|DONE|>"
                if not view.results
                else "<|DONE|>"
            )
        if view.wants_commit:
            action = lamp if request.seed % 5 else "purple"
            return f"so it is <|ACTION|>{action}<|END|>"
        if not view.results:
            return f"<|SEARCH|>map.txt|{lamp}<|END|><|TAIL|>actions.txt|2<|END|>"
        return f"I know enough. <|ACTION|>{lamp}<|END|>"


class LateEngine(ScriptedEngine):
    """Not there when first asked; never, where its file cannot be made."""

    def __init__(self, file: str) -> None:
        super().__init__(ToyPlayer())
        self._file = file

    async def capabilities(self) -> Capabilities:
        try:
            is_late = _first(self._file)
        except FileNotFoundError:
            is_late = True
        if is_late:
            raise EngineError("nobody answers")
        return await super().capabilities()


def _first(path: str) -> bool:
    """Whether nobody asked for this file before; makes it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def toy_spec(**changes: Any) -> Any:
    """A rollout of the toy world by the toy player; `changes` are fields of `RolloutSpec`, but
    for `world_args`, `player_args`, `seeds` and `latency_s`."""
    from automem.config import conf_dir
    from automem.rollout.spec import (
        EngineSpec,
        EpisodeKey,
        RoleSpec,
        RolloutSpec,
        WorldSpec,
    )

    world_args = changes.pop("world_args", {})
    player_args = changes.pop("player_args", {})
    latency_s = changes.pop("latency_s", 0.0)
    seeds = changes.pop("seeds", range(3))
    fields: dict[str, Any] = {
        "world": WorldSpec("toy", {"_target_": "support.toy_world.ToyWorld", **world_args}),
        "engines": {
            "base": EngineSpec(
                target={
                    "_target_": "automem.engine.scripted.ScriptedEngine",
                    "player": {"_target_": "support.toy_world.ToyPlayer", **player_args},
                    "latency_s": latency_s,
                },
                placement="worker",
            )
        },
        "memory": RoleSpec("base"),
        "gameplay": RoleSpec("base"),
        "scaffold": str(conf_dir() / "scaffold" / "v0"),
        "episodes": tuple(EpisodeKey(seed) for seed in seeds),
        "workers": 0,
    }
    return RolloutSpec(**{**fields, **changes})


TESTS = Path(__file__).resolve().parents[1]
