"""`automem ask`, a program of its own, against a server on a free port of loopback."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.live_policy import live
from support.served_policy import make_served_spec

from automem.cli import FAILED, USAGE, main
from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem.rollout.chain import read_events
from automem.trace.events import Committed, Observed
from automem_envs.concentration.players import PerfectMemoryPlayer


class Moody(ScriptedEngine):
    """Fails as often as it is told to."""

    failing = 0

    async def generate(self, request: GenerateRequest) -> Completion:
        if self.failing:
            self.failing -= 1
            raise EngineError("it is being moved")
        return await super().generate(request)


class Table:
    """A server, its engine and an episode that `automem ask` has made."""

    def __init__(self, url: str, engine: Moody, folder: Path, episode: str) -> None:
        self.url, self.engine, self.episode = url, engine, episode
        self._folder = folder / "served" / "tenants" / "local" / "episodes" / episode

    def act(self, *arguments: str) -> int:
        return main(["ask", "--url", self.url, "--episode", self.episode, *arguments])

    def keys(self) -> list[str]:
        events = read_events(self._folder)
        keys = [event.key for event in events if isinstance(event, Observed)]
        assert len([event for event in events if isinstance(event, Committed)]) == len(keys)
        return keys


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Table]:
    engine = Moody(PerfectMemoryPlayer())
    with live(make_served_spec(tmp_path), engine) as url:
        assert main(["ask", "--url", url, "--new", "find the exit"]) == 0
        yield Table(url, engine, tmp_path, capsys.readouterr().out.split()[-1])


def test_an_act_that_failed_is_finished_by_the_same_command(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    table.engine.failing = 1
    assert table.act("a dark room") == FAILED
    assert "again, without acting twice" in capsys.readouterr().err
    assert table.act("a light room") == FAILED
    assert "it needs the same text again" in capsys.readouterr().err
    assert table.act("a dark room") == 0
    assert table.act("a light room") == 0
    assert len(set(table.keys())) == 2


def test_an_act_with_a_key_is_done_once(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert table.act("a dark room", "--key", "first") == 0
    assert table.keys() == ["first"]
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] * 2 == shown
    assert table.act("a light room", "--key", "first") == FAILED
    assert table.act("a dark room", "--key", "zwölf") == USAGE


def test_an_act_that_was_begun_without_a_key_is_finished_too(table: Table) -> None:
    table.engine.failing = 1
    body = {"observation": "a dark room"}
    path = f"{table.url}/v1/episodes/{table.episode}/act"
    assert httpx.post(path, json=body, timeout=60).status_code == 503
    assert table.act("a dark room") == 0
    assert table.keys() == [""]


@contextmanager
def another_server() -> Iterator[str]:
    """Somebody else's: it answers everything with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_odd_names_and_odd_servers_are_told_in_one_message(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    for odd in ("ep x", "ep-\n1", "../admin", "ép"):
        assert main(["ask", "--url", table.url, "--episode", odd, "hello"]) == FAILED
        assert "404" in capsys.readouterr().err
    assert main(["ask", "--url", "http://local host:1", "hello"]) == USAGE
    assert "--url" in capsys.readouterr().err
    with another_server() as url:
        assert main(["ask", "--url", url, "hello"]) == FAILED
    assert "not in JSON" in capsys.readouterr().err
