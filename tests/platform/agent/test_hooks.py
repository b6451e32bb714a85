"""hooks.py: what it may say, what it costs when it misbehaves, and that it can do no harm."""

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.agent_harness import (
    TEMPLATES,
    CountingGame,
    SpyEngine,
    make_scaffold,
    make_session,
    play,
)
from support.toy_world import toy_spec

from automem.agent.expressions import Facts
from automem.agent.hooks import MOST_FAILURES, HookError, Hooks, make_hooks
from automem.agent.isolation import UNPROTECTED, Isolation, find_isolation
from automem.agent.prompt_view import PromptView, read_prompt
from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import FileSchema, Notice, Scaffold
from automem.config import scaffold_path
from automem.engine.protocol import GenerateRequest
from automem.errors import UsageError
from automem.rollout import lease as leases
from automem.rollout.journal import Journal
from automem.rollout.recovery import recover
from automem.rollout.run import run_rollout
from automem.trace.events import Committed, Failed, Routine

UNPROTECTED_OPTIONS = AgentOptions(hooks="unprotected")
FACTS = Facts(observation="tick 1", action="go", lines={"notes.txt": 3})
PARSING = """
def parse(observation):
    word, _, number = observation.partition(" ")
    return {"word": word, "number": int(number)}

def notices(moment):
    return [f"{moment['routine']} {moment['fields']['number']} {moment['lines']['notes.txt']}"]
"""


def player(view: PromptView, request: GenerateRequest) -> str:
    return (
        "<|APPEND|>notes.txt|x<|END|><|DONE|>" if view.routine == "log" else "<|ACTION|>go<|END|>"
    )


def hooked(source: str, notices: tuple[Notice, ...] = ()) -> Scaffold:
    schema = make_scaffold([FileSchema("notes.txt")]).schema
    return Scaffold(msgspec.structs.replace(schema, notices=notices), TEMPLATES, source)


async def played(
    tmp_path: Path, source: str, notices: tuple[Notice, ...] = ()
) -> tuple[list[PromptView], MemoryRecorder]:
    engine = SpyEngine(player)
    session, recorder, _ = make_session(
        tmp_path, engine, hooked(source, notices), options=UNPROTECTED_OPTIONS
    )
    await play(session, CountingGame(5))
    return [read_prompt(request.messages) for request in engine.requests], recorder


async def test_a_hook_parses_the_observation_and_adds_its_own_notices(tmp_path: Path) -> None:
    declared = Notice('number_field("number") == 2', text='{text_field("word")} two')
    views, _ = await played(tmp_path, PARSING, (declared,))
    plans = [view for view in views if view.routine is Routine.PLAN and not view.turns]
    assert plans[0].notices == ["plan 0 0"]
    assert ["tick two", "plan 2 2"] in [view.notices for view in plans]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def notices(moment):\n    return 1 / 0\n", "raised ZeroDivisionError in line 2"),
        ("import os\ndef notices(moment): os._exit(3)\n", "died without an answer"),
        ("def notices(moment): return ['x' * 1000]\n", "at most 300 characters"),
        ("def notices(moment): return ['a\\nb']\n", "plain lines"),
        ("def notices(moment): return ['# results']\n", "may not begin with `#`"),
        ("def notices(moment): return ['x'] * 9\n", "gave 9 notices"),
        ("def notices(moment): return [{'a': 1}]\n", "no usable answer"),
        ("def parse(observation): return 7\n", "no usable answer"),
        ("def parse(observation): return {'x': [1]}\n", "no usable answer"),
        ("raise SystemExit('no')\n", "raised SystemExit in line 1"),
    ],
)
async def test_a_hook_that_fails_costs_its_notice_and_not_the_episode(
    tmp_path: Path, source: str, message: str
) -> None:
    views, recorder = await played(tmp_path, source)
    failures = [event for event in recorder.events if isinstance(event, Failed)]
    assert len(failures) == MOST_FAILURES
    assert all(failed.boundary == "hook" and message in failed.error for failed in failures)
    assert failures[-1].error.endswith("it is not asked again in this attempt")
    assert len([event for event in recorder.events if isinstance(event, Committed)]) == 5
    assert not any(view.notices for view in views)


async def test_a_failed_hook_does_not_end_an_episode_that_is_resumed(tmp_path: Path) -> None:
    _, recorder = await played(tmp_path / "memory", "def notices(moment): return 1 / 0\n")
    folder = tmp_path / "journal"
    journal = Journal(folder, leases.acquire(folder, 0))
    for event in recorder.events:
        journal.append(event)
    journal.close()
    assert recover(folder).player_failure is None


async def test_a_hook_remembers_nothing(tmp_path: Path) -> None:
    source = "seen = []\ndef notices(moment):\n    seen.append(1)\n    return [str(len(seen))]\n"
    views, _ = await played(tmp_path, source)
    assert {line for view in views for line in view.notices} == {"1"}


async def test_hooks_that_are_off_are_not_run(tmp_path: Path) -> None:
    assert make_hooks(PARSING, "off") is None
    with pytest.raises(UsageError, match="did you mean 'isolated'"):
        AgentOptions(hooks="isolate")


def test_without_isolation_hooks_are_refused_unless_opted_out_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    find_isolation.cache_clear()
    try:
        with pytest.raises(UsageError) as caught:
            make_hooks(PARSING, "isolated")
        for words in ("bubblewrap is not installed", "agent.hooks=off", "agent.hooks=unprotected"):
            assert words in str(caught.value)
        assert isinstance(make_hooks(PARSING, "unprotected"), Hooks)
        assert make_hooks("", "isolated") is None
    finally:
        find_isolation.cache_clear()


def test_a_run_whose_hooks_cannot_be_isolated_is_refused_before_it_plays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = shutil.copytree(scaffold_path("v0"), tmp_path / "scaffold")
    (folder / "hooks.py").write_text("def notices(moment): return ['hooked']\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    find_isolation.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"agent\.hooks=off"):
            run_rollout(toy_spec(scaffold=str(folder)), tmp_path / "refused")
        few = {"seeds": [0], "max_steps": 3, "agent": {"hooks": "unprotected"}}
        spec = toy_spec(scaffold=str(folder), **few)
        assert not run_rollout(spec, tmp_path / "played").pending
    finally:
        find_isolation.cache_clear()
    journal = (tmp_path / "played/episodes/toy-0-0/journal/0001.jsonl").read_text()
    assert "hooked" in journal


def test_isolation_that_does_not_hold_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Isolation, "command", lambda self: UNPROTECTED_COMMAND)
    find_isolation.cache_clear()
    try:
        found = find_isolation()
        assert isinstance(found, str)
        assert "could use" in found or "not installed" in found
    finally:
        find_isolation.cache_clear()


UNPROTECTED_COMMAND = UNPROTECTED.command()

# Hostile hooks, for real.

SYSTEM_PYTHON = "/usr/bin/python3"
CANARY = "canary-3141592653"


def _ways() -> list[str]:
    """How hooks can be isolated here: from root in both orders, from another user."""
    if shutil.which("bwrap") is None:
        return []
    if os.geteuid() != 0:
        return ["user"]
    if shutil.which("setpriv") is None:
        return []
    others = ["root, given up first", "user"] if Path(SYSTEM_PYTHON).exists() else []
    return ["root, given up inside", *others]


def _isolation(way: str) -> Isolation:
    drops = {"user": "", "root, given up inside": "inside", "root, given up first": "first"}[way]
    needs_system = os.geteuid() == 0 and way != "root, given up inside"
    python = os.path.realpath(SYSTEM_PYTHON if needs_system else sys.executable)
    return Isolation("bubblewrap", python, drops)


def answer_of(way: str, source: str, deadline_s: float = 20.0) -> str:
    """What the hook's notices say, or how it failed."""
    hooks = Hooks(source, _isolation(way), deadline_s)

    def ask() -> str:
        try:
            return "\n".join(hooks._ask({"observation": "", "routine": "plan"}).notices)
        except HookError as error:
            return f"failed: {error}"

    return _as_another_user(ask) if way == "user" and os.geteuid() == 0 else ask()


def _as_another_user(function: Callable[[], str]) -> str:
    """The function's answer in a child that is not root any more."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(54_321)
            os.setuid(54_321)
            os.write(writing, function().encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def trying(body: str) -> str:
    """A hook that runs `body`, which fills `got`; what it raises is said, too."""
    lines = "\n".join(f"        {line}" for line in body.strip().split("\n"))
    return (
        "import os, sys\ndef notices(moment):\n    got = []\n    try:\n"
        f"{lines}\n"
        "    except BaseException as error:\n"
        "        got.append(f'{type(error).__name__}: {error}'[:200])\n"
        "    return [str(got)[:280]]\n"
    )


READS = {
    "the password file": "got.append(open('/etc/passwd').read())",
    "the shadow of /proc": "got.append(open('/proc/self/environ').read())",
    "its parent's environment": "got.append(open(f'/proc/{os.getppid()}/environ').read())",
    "its home": f"got.append(open('{Path.home()}/.automem-canary').read())",
    "the folder of the tests": f"got.append(open({str(Path(__file__))!r}).read()[:99])",
    "a socket to this machine": (
        "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\ngot.append('in')"
    ),
    "a socket to the world": (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.connect(('192.0.2.1', 9))\ngot.append('in')"  # needs a route, and sends nothing
    ),
}


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = Path.home() / ".automem-canary"
    path.write_text(CANARY)
    monkeypatch.setenv("AUTOMEM_CANARY", CANARY)
    yield
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("way", _ways())
@pytest.mark.parametrize("what", READS)
def test_a_hook_cannot_read(way: str, what: str, canaries: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        text = answer_of(way, trying(READS[what].replace("PORT", port)))
    assert "Error" in text
    assert not text.startswith("failed"), "it ran, and was kept from it"
    assert CANARY not in text


@pytest.mark.slow
@pytest.mark.parametrize("way", _ways())
def test_a_hook_sees_no_environment_no_privilege_and_no_other_process(
    way: str, canaries: None
) -> None:
    body = (
        "got.append(sorted(os.environ))\n"
        "got.append(os.getuid() > 0 and os.getgid() > 0 and not os.getgroups()[1:])\n"
        "got.append(os.getpid() < 10)"
    )
    text = answer_of(way, trying(body))
    assert CANARY not in text
    assert "AUTOMEM" not in text
    assert text.endswith("True, True]")


WRITES = (
    "for place in ('/x', '/usr/x', '/tmp/x', '/dev/shm/x', '/root/x', sys.prefix + '/x'):\n"
    "    try:\n"
    "        open(place, 'w').write('x' * 9)\n"
    "        got.append(place)\n"
    "    except OSError as error:\n"
    "        pass"
)
MOUNTS = (
    "import ctypes\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "libc.unshare(0x10000000 | 0x00020000)\n"
    "libc.mount(b'none', b'/usr', b'tmpfs', 0, None)\n"
    "with open('/usr/x', 'wb', buffering=0) as file:\n"
    "    got.append(file.write(b'x' * 1000000))"
)
MEMFD = "got.append(os.write(os.memfd_create('x'), b'x' * 1000000))"


@pytest.mark.slow
@pytest.mark.parametrize("way", _ways())
@pytest.mark.parametrize("body", [WRITES, MOUNTS, MEMFD], ids=["files", "mounts", "memory files"])
def test_a_hook_cannot_write_anywhere(way: str, body: str) -> None:
    text = answer_of(way, trying(body))
    assert text == "[]" or "Error" in text, text


@pytest.mark.slow
@pytest.mark.parametrize("way", _ways())
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("while True: os.fork()", "BlockingIOError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
        ("x = bytearray(10_000_000_000)\ngot.append(len(x))", "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(50_000_000))", "MemoryError"),
        ("os.kill(-1, 9)", "ProcessLookupError"),
        ("os.kill(os.getppid(), 9)", "["),
        ("while True: pass", "gave no answer within 1.5 s"),
        ("import signal\nsignal.pthread_sigmask(0, range(1, 32))\nwhile True: pass", "no answer"),
        ("import time\ntime.sleep(60)", "gave no answer within 1.5 s"),
        ("while True: print('x' * 100000)", "gave no answer within 1.5 s"),
        ("while True: os.write(3, b'x' * 100000)", "more than 64000 bytes"),
        ("os.execv('/bin/sleep', ['sleep', '60'])", "gave no answer within 1.5 s"),
        ("import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", "ValueError"),
        ("x = [open(sys.executable) for _ in range(99)]", "OSError"),
    ],
)
def test_a_hook_cannot_use_up_the_machine(way: str, body: str, expected: str) -> None:
    text = answer_of(way, trying(body), 1.5 if "no answer" in expected else 20.0)
    assert expected in text
    end = time.monotonic() + 10
    while _processes_of_hooks() and time.monotonic() < end:
        os.sched_yield()  # the kernel is still taking the process tree down
    assert not _processes_of_hooks()


def _processes_of_hooks() -> list[int]:
    """Processes of the users that hooks run as."""
    found = []
    for status in Path("/proc").glob("[0-9]*"):
        try:
            uid = status.stat().st_uid
            is_zombie = (status / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if is_zombie:
            continue
        if 60_000 <= uid < 65_000 or uid == 54_321:
            found.append(int(status.name))
    return found


@pytest.mark.slow
async def test_a_game_with_a_hostile_hook_is_played_to_its_end(tmp_path: Path) -> None:
    if isinstance(find_isolation(), str):
        pytest.skip(str(find_isolation()))
    source = trying("got.append(open('/etc/passwd').read())\n")
    engine = SpyEngine(player)
    session, _, _ = make_session(tmp_path, engine, hooked(source))
    assert await play(session, CountingGame(3)) == ["go"] * 3
    views = [read_prompt(request.messages) for request in engine.requests]
    assert any("FileNotFoundError" in line for view in views for line in view.notices)
