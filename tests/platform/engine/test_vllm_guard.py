"""What ends with the process that started it, and what does not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from automem.engine.vllm_guard import with_descendants

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")

_PARENT = """
import os, subprocess, sys
from automem.engine.vllm_guard import MARK, Guard
guard = Guard("a-mark")
sleep = "import time; time.sleep(600)"
again = f"[sys.executable, '-c', {sleep!r}]"
hide = f"import os, sys; input(); os.execve(sys.executable, {again}, {{}})"
marked = {**os.environ, MARK: "a-mark"}
child = subprocess.Popen([sys.executable, "-c", hide], env=marked, stdin=subprocess.PIPE)
family = (
    "import os, subprocess, sys; os.environ.pop('AUTOMEM_VLLM_MARK'); "
    f"below = subprocess.Popen([sys.executable, '-c', {sleep!r}]); "
    "print(below.pid, flush=True); below.wait()"
)
mother = subprocess.Popen([sys.executable, "-c", family], env=marked, stdout=subprocess.PIPE)
grandchild = int(mother.stdout.readline())
stranger = {**os.environ, MARK: "a-marked"}
bystander = subprocess.Popen([sys.executable, "-c", sleep], env=stranger)
guard.all_started()
child.stdin.write(b"now\\n")
child.stdin.flush()
print(bystander.pid, guard.pid, child.pid, mother.pid, grandchild, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family():
    """A parent that started a guard, and what it says of its processes."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    bystander, *processes = map(int, parent.stdout.readline().split())
    yield parent, bystander, processes
    for process in (bystander, *processes):
        if _lives(process):
            os.kill(process, signal.SIGKILL)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()


def test_a_killed_parents_processes_end_and_no_others(family):
    """Also those that hid their mark, and those below them that never had it."""
    parent, bystander, (guard, child, *others) = family
    _await(lambda: b"MARK" not in _environment(child))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _await(lambda: not any(_lives(process) for process in (guard, child, *others)))
    assert _lives(bystander)


def test_the_guard_does_nothing_while_its_parent_lives(family):
    parent, _, (guard, child, mother, grandchild) = family
    os.kill(child, signal.SIGKILL)
    _await(lambda: not _lives(child))
    assert parent.poll() is None
    assert _lives(guard)
    assert with_descendants([mother]) == [mother, grandchild]


def _environment(process: int) -> bytes:
    with open(f"/proc/{process}/environ", "rb") as file:
        return file.read()


def _lives(process: int) -> bool:
    """Whether it runs; a zombie, which nobody has waited for, does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _await(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
