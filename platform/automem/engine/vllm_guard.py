"""Ends vLLM's processes when the process that started them is gone.

vLLM runs a model in processes of its own. Where their parent is killed at once (a lost engine
actor, a machine out of memory) they live on and hold the device, so that the engine that replaces
it finds no memory. This small program waits for the end of its standard input, which closes with
its parent however that one dies, and then kills those processes and their children. It knows them
by a mark in their environment, which it has to see early: vLLM writes its title over it later.

Not covered: systems without /proc, and vLLM workers that Ray started (Ray ends those itself).
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MARK = "AUTOMEM_VLLM_MARK"
"""Environment variable of the processes that are guarded."""
_LOOK_S = 0.25
"""Between looks while they start; a process of vLLM imports for seconds before its title."""


class Guard:
    """The parent's side."""

    def __init__(self, mark: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        self._program = subprocess.Popen(
            [sys.executable, "-S", __file__, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # a signal to the parent's group is not for the guard
        )

    @property
    def pid(self) -> int:
        return self._program.pid

    def all_started(self) -> None:
        """No more processes will come; returns once it knows them all."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(b"!")
        self._program.stdin.flush()
        self._program.stdout.read(1)

    def end(self) -> None:
        """Kill what is left, and end; blocks for a moment."""
        self._program.communicate()


def with_descendants(processes: Iterable[int]) -> list[int]:
    """These processes and all below them, as far as they live."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            process = int(entry.parent.name)
            children.setdefault(int(parent), []).append(process)
            if state != "Z":
                alive.add(process)
    found: list[int] = []
    below = list(processes)
    while below:
        process = below.pop()
        if process not in found:
            found.append(process)
            below += children.get(process, [])
    return [process for process in found if process in alive]


def _marked(mark: str) -> dict[int, str]:
    """All that still carry the mark: process id and when it was born."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            if wanted in entry.read_bytes().split(b"\0"):
                process = int(entry.parent.name)
                found[process] = _born(process)
    return found


def _born(process: int) -> str:
    """When it was, in clock ticks; empty where it is gone. Ids are used again, births are not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def main(mark: str) -> None:
    """Look until all have started, wait for the parent's end, then kill."""
    found: dict[int, str] = {}
    while not select.select([0], [], [], _LOOK_S)[0]:
        found |= _marked(mark)
    found |= _marked(mark)
    if os.read(0, 1):  # all have started
        os.write(1, b"!")
        os.read(0, 1)  # until the parent is gone
    for _ in range(2):  # one may just have been starting another
        roots = {process for process, born in found.items() if _born(process) == born}
        for process in with_descendants(roots | set(_marked(mark))):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
