"""What ends with the process that started it, and what does not."""

import os
import signal
import subprocess
import sys

import pytest
from support.drivers import wait_until

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
    wait_until(lambda: b"MARK" not in _environment(child), "the mark to go", 30)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(
        lambda: not any(_lives(process) for process in (guard, child, *others)), "their end", 30
    )
    assert _lives(bystander)


def test_the_guard_does_nothing_while_its_parent_lives(family):
    parent, _, (guard, child, mother, grandchild) = family
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not _lives(child), "its end", 30)
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
