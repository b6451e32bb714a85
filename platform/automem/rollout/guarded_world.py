"""A world behind a fence: whatever it raises is a WorldError, whatever it returns is checked.

Steps run where they are called, in the worker's event loop: worlds are fast, and handing each step
to a thread would cost more than the step. A world that hangs is the watchdog's business.
"""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from hydra.utils import instantiate

from automem.errors import UsageError, WorldError
from automem.rollout.spec import WorldSpec
from automem.trace.events import Outcome
from automem.world import World, progression_of

_OWN_FIELDS = frozenset({"progression", "invalid_action"})


class WorldClock:
    """Time that a process has spent inside worlds, so that the platform's own can be told apart."""

    __slots__ = ("cpu_s", "wall_s")

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.wall_s = 0.0


class GuardedWorld:
    """One episode's world; answers come as (observation, `Outcome`)."""

    def __init__(self, spec: WorldSpec, clock: WorldClock) -> None:
        """Build it. WorldError where its constructor raises."""
        self._name = spec.name
        self._clock = clock
        self.last_s = 0.0
        """Seconds that the last answer took."""
        try:
            self._world: World = instantiate(spec.target, _convert_="all")
            self.instruction = str(self._world.instruction)
            self.fallback_action = str(self._world.fallback_action)
            self.max_steps = int(self._world.max_steps)
        except Exception as error:
            raise WorldError(f"{spec.name} cannot be built: {_named(error)}") from error

    def reset(self, seed: int) -> tuple[str, Outcome]:
        """The first observation."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            observation, info = self._world.reset(seed=seed)
            return _text(observation), _outcome("", 0.0, False, False, info)
        except Exception as error:
            raise WorldError(f"{self._name} did not reset: {_named(error)}") from error
        finally:
            self._count(wall, cpu)

    def step(self, action: str) -> tuple[str, Outcome]:
        """The answer to `action`."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            observation, reward, terminated, truncated, info = self._world.step(action)
            return _text(observation), _outcome(action, reward, terminated, truncated, info)
        except Exception as error:
            raise WorldError(f"{self._name} broke in {action!r}: {_named(error)}") from error
        finally:
            self._count(wall, cpu)

    def close(self) -> None:
        """Free it. What a world raises here changes no result any more, but is not hidden."""
        try:
            self._world.close()
        except Exception as error:
            raise WorldError(f"{self._name} did not close: {_named(error)}") from error

    def _count(self, wall: float, cpu: float) -> None:
        self.last_s = time.perf_counter() - wall
        self._clock.wall_s += self.last_s
        self._clock.cpu_s += time.thread_time() - cpu


def check_world(spec: WorldSpec) -> None:
    """Build the world once. UsageError where it was asked for in the wrong way: there is no such
    class, or it does not take these arguments. Anything else is left to the episodes."""
    try:
        world = GuardedWorld(spec, WorldClock())
    except WorldError as error:
        root: BaseException = error
        while (cause := root.__cause__ or root.__context__) is not None:
            root = cause
        if isinstance(root, UsageError | ImportError | TypeError | AttributeError):
            target = spec.target.get("_target_")
            raise UsageError(f"world {spec.name!r} ({target}) cannot be built: {root}") from error
        return
    with suppress(WorldError):
        world.close()


def _outcome(
    action: str, reward: Any, terminated: Any, truncated: Any, info: Mapping[str, Any]
) -> Outcome:
    value = float(reward)
    if not math.isfinite(value):
        raise ValueError(f"the reward must be finite, got {value}")
    rest = {name: part for name, part in info.items() if name not in _OWN_FIELDS}
    return Outcome(
        progression=progression_of(info),
        reward=value,
        terminated=bool(terminated),
        truncated=bool(truncated),
        invalid_action=bool(info.get("invalid_action", False)),
        action=action,
        info=_plain(rest) if rest else {},
    )


def _plain(info: dict[str, Any]) -> Any:
    """`info` as the journal will give it back, so that a resumed episode sees the same."""
    return msgspec.json.decode(msgspec.json.encode(info, enc_hook=_from_array))


def _from_array(value: Any) -> Any:
    """NumPy scalars and arrays as plain numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _text(observation: Any) -> str:
    if not isinstance(observation, str):
        raise TypeError(f"the observation must be text, got {type(observation).__name__}")
    # Half a surrogate pair is no character: it could be neither stored nor sent to a model.
    return observation if observation.isascii() else observation.encode("utf-8", "replace").decode()


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
