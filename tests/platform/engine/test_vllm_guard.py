"""What ends with the process that started it, and what does not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from automem.engine.vllm_guard import MARK, marked

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")

_PARENT = """
import os, subprocess, sys, uuid
from automem.engine.vllm_guard import MARK, start_guard
mark = uuid.uuid4().hex
guard = start_guard(mark)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleep, env={**os.environ, MARK: mark}) for _ in range(2)]
bystander = subprocess.Popen(sleep)
print(mark, guard.pid, bystander.pid, *(child.pid for child in children), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family():
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    mark, *processes = parent.stdout.readline().split()
    yield parent, mark, [int(process) for process in processes]
    os.kill(int(processes[1]), signal.SIGKILL)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()


def test_a_killed_parents_marked_processes_end_and_no_others(family):
    parent, mark, (guard, bystander, *children) = family
    assert sorted(marked(mark)) == sorted(children)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _await(lambda: not any(_lives(process) for process in (guard, *children)))
    assert marked(mark) == []
    assert _lives(bystander)


def test_the_guard_does_nothing_while_its_parent_lives(family):
    parent, mark, (guard, _, *children) = family
    os.kill(children[0], signal.SIGKILL)
    _await(lambda: marked(mark) == children[1:])
    assert parent.poll() is None
    assert _lives(guard)


def test_the_mark_is_looked_for_whole(family):
    _, mark, _ = family
    assert marked(mark[:-1]) == []
    assert MARK not in os.environ


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
