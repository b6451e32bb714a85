"""Whole episodes against a real HTTP server that misbehaves: nothing is lost, nothing is played."""

import asyncio
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chat_server import Behaviour, ChatServer, answer_body, drop, hang, say

from automem.commands.plan import spec_from
from automem.config import compose, scaffold_path
from automem.rollout.journal import read_events
from automem.rollout.progress import RunResult
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.spec import RolloutSpec
from automem.trace.compare import first_difference
from automem.trace.events import CommitSource, Committed, Failed, Turn

EPISODES = ("crafter-42-0", "crafter-43-0")
FAULTS = (
    say(429, b'{"error": {"message": "slow down"}}', "Retry-After: 0"),
    say(500, b"oops"),
    say(503, b""),
    say(200, b'{"choices": [{"message": {"content": "half'),
    say(200, b'{"choices": []}'),
    drop(),
    drop(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A server in a thread of its own."""
    server = ChatServer()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def crafter(server: ChatServer, *overrides: str) -> RolloutSpec:
    settings = [
        "env=crafter",
        "engine=openai",
        f"engine.base_url={server.url}",
        "engine.model=test",
        "engine.target.backoff_s=0.001",
        "engine.target.timeout_s=2",
        "rollout.seeds=[42,43]",
        "rollout.max_steps=8",
        "rollout.workers=0",
    ]
    return spec_from(compose(overrides=[*settings, *overrides]))


def play(server: ChatServer, run_dir: Path, script: list[Behaviour], *overrides: str) -> RunResult:
    server.script.extend(script)
    return run_rollout(crafter(server, *overrides), run_dir)


def same_traces(one: Path, other: Path) -> str:
    """The first difference between two runs' traces; empty where there is none."""
    return "".join(
        first_difference(
            read_events(one / "episodes" / episode), read_events(other / "episodes" / episode)
        )
        for episode in EPISODES
    )


def test_faults_in_a_third_of_all_calls_change_no_trace(server: ChatServer, tmp_path: Path) -> None:
    calm = play(server, tmp_path / "calm", [])
    asked = server.requests

    chooser = random.Random(3)

    def now_and_then(fault: Behaviour) -> Behaviour:
        """Fails, or answers after all."""

        def behaviour(connection):
            if chooser.random() < 0.3:
                return fault(connection)
            connection.write(server.answer_to(connection.request))
            return None

        return behaviour

    script = [now_and_then(chooser.choice(FAULTS)) for _ in range(2 * asked)]
    stormy = play(server, tmp_path / "stormy", script)
    assert len(calm.finished) == len(stormy.finished) == 2
    assert server.requests > 2.2 * asked, "the server did fail"
    assert same_traces(tmp_path / "calm", tmp_path / "stormy") == ""


def test_defect_an_api_failure_turning_into_a_game_action(
    server: ChatServer, tmp_path: Path
) -> None:
    shutil.copytree(scaffold_path("v0"), tmp_path / "scaffold")
    play(server, tmp_path / "calm", [])
    broken = [hang(), *[say(500, b"down")] * 400]
    short = [
        f"scaffold={tmp_path / 'scaffold'}",
        "rollout.deadlines.patience_s=1",
        "engine.target.max_attempts=2",
    ]
    result = play(server, tmp_path / "broken", broken, *short)
    assert len(result.pending) == 2
    assert all("engine" in episode.reason for episode in result.pending)
    for episode in EPISODES:
        events = read_events(tmp_path / "broken" / "episodes" / episode)
        assert not [event for event in events if isinstance(event, Committed)]
        assert [event for event in events if isinstance(event, Failed)]
    server.script.clear()
    shutil.rmtree(tmp_path / "scaffold")  # the run has a copy of its own
    assert len(resume_run(tmp_path / "broken").finished) == 2
    assert same_traces(tmp_path / "calm", tmp_path / "broken") == ""


def test_an_answer_of_a_megabyte_is_a_turn_like_any_other(
    server: ChatServer, tmp_path: Path
) -> None:
    result = play(server, tmp_path / "run", [say(200, answer_body("x" * 1_000_000))])
    assert len(result.finished) == 2
    events = [e for name in EPISODES for e in read_events(tmp_path / "run" / "episodes" / name)]
    assert sum(isinstance(event, Turn) for event in events) >= 48
    sources = {event.source for event in events if isinstance(event, Committed)}
    assert sources <= {CommitSource.MODEL, CommitSource.FORCED}
