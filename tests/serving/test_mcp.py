"""A memory directory over MCP, used by the official client: over stdio and over HTTP."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port

from automem.cli import main
from automem.memory.ops import OPS, READING
from automem.memory.sandbox import Quota
from automem_serving.memory_folder import MemoryFolder

mcp = pytest.importorskip("mcp", reason="pip install 'automem[mcp]'")

COMMAND = [sys.executable, "-m", "automem.cli", "mcp"]


@asynccontextmanager
async def over_stdio(*arguments: str) -> AsyncIterator[Any]:
    """The official client; it starts `automem mcp` and talks to it through pipes."""
    server = mcp.StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *arguments])
    async with mcp.Client(server, read_timeout_seconds=30) as client:
        yield client


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A running `automem mcp --http` on a free port."""
    port = free_port()
    command = [*COMMAND, str(tmp_path / "memory"), "--http", "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=20)


async def say(client: Any, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content[0].text
    return result.content[0].text


async def refused(client: Any, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return result.content[0].text


async def use_everything(client: Any) -> None:
    """Both ways to use a memory: operations, and the tool with commands."""
    names = {tool.name for tool in (await client.list_tools()).tools}
    assert names == {"memory", *(name.lower() for name in OPS)}
    assert await say(client, "append", file="map.txt", text="tree at 3,4") == "ok"
    assert await say(client, "upsert", file="map.txt", key="5,5", text="water") == "ok"
    assert await say(client, "search", file="*", keyword="WATER") == "map.txt: 5,5: water"
    view = await say(client, "memory", command="view", path="/memories/map.txt")
    assert "tree at 3,4" in view
    written = {"command": "create", "path": "/memories/goals.md", "file_text": "find water\n"}
    assert "successfully" in await say(client, "memory", **written)
    assert (await say(client, "list")).splitlines() == ["goals.md 1", "map.txt 2"]
    assert "did you mean" in await refused(client, "read", file="maps.txt")
    assert "is called" in await refused(client, "append", file="map.txt")
    assert "did you mean" in await refused(client, "serch", file="map.txt", keyword="x")


async def test_a_client_uses_a_memory_over_stdio_and_finds_it_again(tmp_path: Path) -> None:
    async with over_stdio(str(tmp_path / "memory")) as client:
        await use_everything(client)
    assert (tmp_path / "memory" / "map.txt").read_text() == "tree at 3,4\n5,5: water\n"
    async with over_stdio(str(tmp_path / "memory"), "--read-only") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"memory", *(name.lower() for name in READING)}
        assert await say(client, "read", file="goals.md") == "find water"
        assert "reading only" in await refused(client, "append", file="map.txt", text="x")
        delete = {"command": "delete", "path": "/memories/map.txt"}
        assert "reading only" in await refused(client, "memory", **delete)


async def test_clients_over_http_share_a_memory_and_lose_nothing(url: str, tmp_path: Path) -> None:
    async with mcp.Client(url) as one, mcp.Client(url) as other:
        await use_everything(one)
        await asyncio.gather(
            *(
                say(client, "append", file="log.txt", text=f"{name} {number}")
                for number in range(10)
                for name, client in (("one", one), ("other", other))
            )
        )
    lines = (tmp_path / "memory" / "log.txt").read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {n}" for n in range(10) for name in ("one", "other"))


async def test_a_page_of_another_site_gets_no_memory_over_http(url: str) -> None:
    import httpx

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    async with httpx.AsyncClient() as client:
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            answer = await client.post(url, json=body, headers=headers)
            assert answer.status_code in (403, 421)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", {"file": "../outside.txt"}),
        ("append", {"file": "/etc/passwd", "text": "x"}),
        ("append", {"file": "a/b/c/d/e/f.txt", "text": "x"}),
        ("write", {"file": "big.txt", "text": "x" * 2000}),
        ("memory", {"command": "view", "path": "/memories/../.."}),
        ("memory", {"command": "create", "path": "/memories/link/x", "file_text": "x"}),
        ("read", {"file": "link/outside.txt"}),
        ("commit_action", {"action": "north"}),
        ("done", {}),
        ("", {}),
    ],
)
def test_nothing_outside_the_folder_is_reached(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    folder = MemoryFolder(tmp_path / "memory", Quota(file_bytes=1000))
    (tmp_path / "memory" / "link").symlink_to(tmp_path)
    result = folder.call(name, arguments)
    assert result.is_error
    assert str(tmp_path) not in result.text
    assert "secret" not in result.text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "memory", "outside.txt"]


def test_an_episodes_memory_is_for_reading_only(tmp_path: Path) -> None:
    from automem.rollout.chain import journal_path

    journal = journal_path(tmp_path, 1)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_bytes(b"")
    folder = MemoryFolder(tmp_path / "memory")
    assert folder.is_read_only
    assert folder.call("append", {"file": "a.txt", "text": "x"}).is_error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mcp"], "DIR"),
        (["mcp", "{tmp}/file"], "cannot be a memory folder"),
        (["mcp", "{tmp}/m", "--http", "--host", "0.0.0.0"], "loopback only"),
    ],
)
def test_mistakes_are_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "file").write_text("")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    assert words in capsys.readouterr().err
