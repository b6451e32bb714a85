"""How long an episode that keeps breaking is tried again, by what broke.

Time and counts run since the last new step: an engine that is away for a minute now and then loses
nothing, one that is gone leaves the episode pending.
"""

import random
import time
from collections.abc import Callable

from automem.errors import EngineRequestError, InfrastructureError, StoreError, WorldError
from automem.rollout.spec import Deadlines

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
DEFECT_ATTEMPTS = 2
"""Attempts at a step that raises what nobody raises on purpose."""


class DamagedError(StoreError):
    """What is stored does not allow to go on: trying again changes nothing."""


class UnexpectedError(InfrastructureError):
    """An exception that no part raises on purpose: a defect of the platform, never a score."""

    boundary = "platform"


class Patience:
    """One episode's failures since its last new step."""

    def __init__(self, deadlines: Deadlines, clock: Callable[[], float] = time.monotonic) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._step = -1
        self._since = 0.0
        self._counts: dict[str, int] = {}
        self._failures = 0

    def delay_after(self, error: InfrastructureError, step: int) -> float | None:
        """Seconds until the next attempt; None: give up for now."""
        if step > self._step:
            self._step, self._since = step, self._clock()
            self._counts, self._failures = {}, 0
        self._failures += 1
        self._counts[error.boundary] = count = self._counts.get(error.boundary, 0) + 1
        if isinstance(error, EngineRequestError | DamagedError):
            return None
        if isinstance(error, WorldError) and count >= self._deadlines.world_attempts:
            return None
        if isinstance(error, UnexpectedError) and count >= DEFECT_ATTEMPTS:
            return None
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (self._failures - 1))
        delay_s *= 0.5 + random.random() / 2
        if self._clock() + delay_s - self._since > self._deadlines.patience_s:
            return None
        return delay_s
