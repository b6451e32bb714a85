"""One act at a time per episode, across replicas.

An flock that is held for the length of an act. A process that dies frees it at once; one that was
stopped while it held it keeps it, so waiting ends after a while and the caller goes on without: the
lease (`automem.rollout.lease`) then decides who may write.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from automem_serving.problems import not_found

_FIRST_DELAY_S, _LAST_DELAY_S = 0.002, 0.1


@asynccontextmanager
async def exclusive(path: Path, wait_s: float) -> AsyncIterator[bool]:
    """Hold the lock file; False where its holder did not give it back within `wait_s`.

    404 where its folder is gone."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise not_found("episode") from None
    try:
        yield await _locked(descriptor, wait_s)
    finally:
        os.close(descriptor)


async def _locked(descriptor: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    delay_s = _FIRST_DELAY_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        await asyncio.sleep(delay_s)
        delay_s = min(_LAST_DELAY_S, 2 * delay_s)
