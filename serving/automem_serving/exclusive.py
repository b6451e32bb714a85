"""One act at a time per episode, across replicas.

An flock that is held for the length of an act, however long that takes, while its holder gives a
sign of life: it touches the file. A process that dies frees the lock at once; one that was stopped
gives no sign any more, and who has waited for one in vain puts a fresh file in the old one's place,
locked. Two who do so in the same moment, or a holder that wakes up later, do no harm: the lease
(`automem.rollout.lease`) decides who may write.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from automem_serving.problems import not_found

_FIRST_DELAY_S, _LAST_DELAY_S = 0.002, 0.1
_SIGNS = 4
"""How often a holder gives a sign of life while another one would wait for it."""


@asynccontextmanager
async def exclusive(path: Path, takeover_s: float) -> AsyncIterator[None]:
    """Hold the lock file. It is taken from a holder that gives no sign of life for `takeover_s`.

    404 where its folder is gone."""
    descriptor = await _locked(path, takeover_s)
    signs = asyncio.create_task(_sign(descriptor, takeover_s / _SIGNS))
    try:
        yield
    finally:
        signs.cancel()
        os.close(descriptor)


async def _sign(descriptor: int, every_s: float) -> None:
    while True:
        os.utime(descriptor)
        await asyncio.sleep(every_s)


async def _locked(path: Path, takeover_s: float) -> int:
    """A descriptor that holds the lock of the file that has this name."""
    while True:
        descriptor = _open(path, os.O_CREAT)
        try:
            is_held = await _waited(descriptor, takeover_s)
            if is_held and _is_named(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        is_stopped = not is_held and _is_named(path, descriptor)
        os.close(descriptor)
        if is_stopped:
            return _put_fresh(path)


async def _waited(descriptor: int, takeover_s: float) -> bool:
    """Whether the file could be locked; False where its holder has stopped giving signs. Only the
    delays asked for are counted: a waiter that was held up itself had no chance to see a sign."""
    seen, silent_s, delay_s = os.fstat(descriptor).st_mtime_ns, 0.0, _FIRST_DELAY_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if silent_s >= takeover_s:
                return False
        await asyncio.sleep(delay_s)
        silent_s += delay_s
        delay_s = min(_LAST_DELAY_S, 2 * delay_s)
        if (sign := os.fstat(descriptor).st_mtime_ns) != seen:
            seen, silent_s = sign, 0.0


def _is_named(path: Path, descriptor: int) -> bool:
    """Whether the file still has its name: somebody may have put a fresh one in its place."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        raise not_found("episode") from None


def _put_fresh(path: Path) -> int:
    """A locked file in the place of the one whose holder has stopped."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = _open(fresh, os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(fresh, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: Path, how: int) -> int:
    try:
        return os.open(path, how | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise not_found("episode") from None
