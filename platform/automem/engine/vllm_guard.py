"""Ends vLLM's processes when the process that started them is gone.

vLLM runs a model in processes of its own. Where their parent is killed at once (a lost engine
actor, a machine out of memory) they live on and hold the device, so that the engine that replaces
it finds no memory. This small program waits for the end of its standard input, which closes with
its parent however that one dies, and kills every process that carries the parent's mark in its
environment.

Not covered: systems without /proc, and vLLM workers that Ray started (Ray ends those itself).
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MARK = "AUTOMEM_VLLM_MARK"
"""Environment variable that names a core's processes."""


def start_guard(mark: str) -> "subprocess.Popen[bytes]":
    """A guard over the processes marked so; closing its standard input lets it act and end."""
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    return subprocess.Popen(
        [sys.executable, "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # a signal to the parent's group is not for the guard
    )


def marked(mark: str) -> list[int]:
    """Process ids of all that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            if wanted in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def main(mark: str) -> None:
    """Wait for the parent's end, then kill, twice: a process may just be starting another."""
    sys.stdin.buffer.read()
    for _ in range(2):
        for process in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
