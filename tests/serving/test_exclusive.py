"""The lock of an act: kept by who works, however slowly; taken from who has stopped."""

import asyncio
import fcntl
import sys
from pathlib import Path

import pytest

from automem_serving.exclusive import exclusive
from automem_serving.problems import ApiError

PATIENCE_S = 0.1
Names = asyncio.Queue[str]


async def wait_for(path: Path, got: Names, name: str, until: asyncio.Event) -> None:
    """Hold the lock from whenever it is given until told to give it back."""
    async with exclusive(path, PATIENCE_S):
        got.put_nowait(name)
        await until.wait()


async def test_who_works_keeps_the_lock_for_as_long_as_it_takes(tmp_path: Path) -> None:
    path, got, done = tmp_path / "act.lock", Names(), asyncio.Event()
    async with exclusive(path, PATIENCE_S):
        waiters = [asyncio.create_task(wait_for(path, got, name, done)) for name in ("a", "b")]
        await asyncio.wait(waiters, timeout=6 * PATIENCE_S)
        assert got.empty()
    done.set()
    await asyncio.gather(*waiters)
    assert {await got.get(), await got.get()} == {"a", "b"}


async def test_the_lock_is_taken_from_who_has_stopped_and_then_held(tmp_path: Path) -> None:
    path, got, done = tmp_path / "act.lock", Names(), asyncio.Event()
    with path.open("w") as stopped:  # holds it as a stopped process does: without a sign of life
        fcntl.flock(stopped, fcntl.LOCK_EX)
        first = asyncio.create_task(wait_for(path, got, "first", done))
        assert await got.get() == "first"
        second = asyncio.create_task(wait_for(path, got, "second", done))
        await asyncio.wait({second}, timeout=6 * PATIENCE_S)
        assert got.empty()  # who took it over is alive: nobody takes it again
    await asyncio.wait({second}, timeout=2 * PATIENCE_S)
    assert got.empty()  # nor is it free since the stopped one has gone
    done.set()
    await asyncio.gather(first, second)
    assert await got.get() == "second"
    assert [name.name for name in tmp_path.iterdir()] == ["act.lock"]


async def test_a_death_frees_the_lock_at_once(tmp_path: Path) -> None:
    path = tmp_path / "act.lock"
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, 2);"
        "print(1, flush=True); sys.stdin.read()"
    )
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdin=pipe, stdout=pipe
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline()
    holder.kill()
    await holder.wait()
    async with asyncio.timeout(60), exclusive(path, takeover_s=10_000):
        pass


async def test_a_folder_that_goes_while_one_waits_is_not_found(tmp_path: Path) -> None:
    folder, got, done = tmp_path / "episode", Names(), asyncio.Event()
    folder.mkdir()
    async with exclusive(folder / "act.lock", PATIENCE_S):
        waiter = asyncio.create_task(wait_for(folder / "act.lock", got, "late", done))
        await asyncio.sleep(0)
        folder.rename(tmp_path / "deleted")
    with pytest.raises(ApiError, match="no such episode"):
        await waiter
    assert got.empty()
