"""Memory as a tool over HTTP: the `memory_20250818` commands on an episode's own memory."""

from pathlib import Path
from typing import Any

import pytest
from support.served_policy import Server, Table, make_served_spec, play, serving

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem.rollout.chain import read_events
from automem.rollout.recovery import recover
from automem.trace.events import TOOL_CAUSE, OpDone, ToolUsed
from automem.trace.query import query
from automem.trace.story import tell
from automem_envs.concentration.players import PerfectMemoryPlayer

NOTES = "/memories/notes.md"


async def use(server: Server, episode: str, key: str = "", **command: Any) -> dict[str, Any]:
    """One command, as a model's `tool_use.input`."""
    answer = await server.client.post(
        f"/v1/episodes/{episode}/tools/memory",
        json=command,
        headers={"Idempotency-Key": key} if key else {},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def act(server: Server, episode: str, table: Table, number: int) -> None:
    answer = await server.act(episode, key=f"act-{number}", **table.body())
    assert answer.status_code == 200, answer.text
    table.take(answer.json()["action"])


def engine() -> ScriptedEngine:
    return ScriptedEngine(PerfectMemoryPlayer())


async def test_every_command_answers_as_its_documentation_says(server: Server) -> None:
    episode = (await server.create(task="t"))["id"]
    told = [
        (await use(server, episode, **command))["content"]
        for command in (
            {"command": "create", "path": NOTES, "file_text": "one\ntwo\n"},
            {"command": "str_replace", "path": NOTES, "old_str": "two", "new_str": "three"},
            {"command": "insert", "path": NOTES, "insert_line": 0, "insert_text": "zero"},
            {"command": "view", "path": NOTES},
            {"command": "rename", "old_path": NOTES, "new_path": "/memories/kept.md"},
            {"command": "view", "path": "/memories"},
            {"command": "delete", "path": "/memories/kept.md"},
        )
    ]
    assert told[0] == f"File created successfully at: {NOTES}"
    assert told[1].startswith("The memory file has been edited.")
    assert told[2] == f"The file {NOTES} has been edited."
    assert [line.split("\t")[-1] for line in told[3].splitlines()[1:]] == ["zero", "one", "three"]
    assert told[4] == f"Successfully renamed {NOTES} to /memories/kept.md"
    assert "/memories/kept.md" in told[5]
    assert told[6] == "Successfully deleted /memories/kept.md"


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"command": "shred", "path": NOTES},
        {"command": "create", "path": "/etc/passwd", "file_text": "x"},
        {"command": "create", "path": "/memories/../x", "file_text": "x"},
        {"command": "create", "path": "/memories/.hidden", "file_text": "x"},
        {"command": "create", "path": NOTES, "file_text": "a\x00b"},
        {"command": "create", "path": NOTES, "file_text": {"a": [2**80]}},
        {"command": "view", "path": NOTES},
        {"command": "insert", "path": NOTES, "insert_line": 2**80, "insert_text": "x"},
        {"command": ["view"], "path": 7},
    ],
)
async def test_a_bad_command_is_told_to_the_model_and_changes_nothing(
    server: Server, command: dict[str, Any]
) -> None:
    episode = (await server.create(task="t"))["id"]
    before = (await server.client.get(f"/v1/episodes/{episode}/memory")).json()
    answer = await use(server, episode, key="k", **command)
    assert answer["is_error"]
    assert (await server.client.get(f"/v1/episodes/{episode}/memory")).json() == before


async def test_what_a_caller_writes_is_read_by_the_agent(server: Server) -> None:
    """The agent's own operations see the file that came from outside."""
    episode, table = (await server.create(world="concentration"))["id"], Table()
    await act(server, episode, table, 0)
    text = (await server.client.get(f"/v1/episodes/{episode}/memory/cards.txt")).text
    written = {"command": "insert", "path": "/memories/cards.txt", "insert_line": 0}
    answer = await use(server, episode, **written, insert_text="from outside\n")
    assert answer["changed_files"] == ["cards.txt"]
    await act(server, episode, table, 1)
    after = (await server.client.get(f"/v1/episodes/{episode}/memory/cards.txt")).text
    assert after.splitlines()[0] == "from outside"
    assert len(after.splitlines()) == len(text.splitlines()) + 2
    diff = (await server.client.get(f"/v1/episodes/{episode}/diff", params={"since": 0})).json()
    assert "+from outside" in diff["files"][0]["diff"]


async def test_a_command_is_done_once_per_key_before_and_after_a_death(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path)
    command = {"command": "create", "path": NOTES, "file_text": "one\n"}
    async with serving(spec, engine()) as server:
        episode = (await server.create(world="concentration"))["id"]
        first = await use(server, episode, key="k", **command)
        assert await use(server, episode, key="k", **command) == first
        other = await server.client.post(
            f"/v1/episodes/{episode}/tools/memory",
            json=command | {"file_text": "two\n"},
            headers={"Idempotency-Key": "k"},
        )
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert (await use(server, episode, **command))["is_error"]  # it is there: no key, no retry
    async with serving(spec, engine()) as server:
        assert await use(server, episode, key="k", **command) == first
        assert (await server.client.get(f"/v1/episodes/{episode}/memory/notes.md")).text == "one\n"
        table = Table()
        await play(server, episode, table, lambda _: None)
        over = await server.client.post(f"/v1/episodes/{episode}/tools/memory", json=command)
        assert (over.status_code, over.json()["error"]["code"]) == (409, "episode_over")
        assert await use(server, episode, key="k", **command) == first


async def test_a_torn_command_never_happened_and_a_whole_one_stays(tmp_path: Path) -> None:
    spec, table = make_served_spec(tmp_path), Table()
    async with serving(spec, engine()) as server:
        episode = (await server.create(world="concentration"))["id"]
        await use(server, episode, command="delete", path="/memories/cards.txt")
        directory = server.context.episodes.store.directory("local", episode)
        assert "cards.txt" not in recover(directory).history.files
    async with serving(spec, engine()) as server:  # the initial files do not come back
        assert "cards.txt" not in (await server.client.get(f"/v1/episodes/{episode}/diff")).text
        await act(server, episode, table, 0)
        await use(server, episode, command="create", path=NOTES, file_text="whole\n")
        await use(server, episode, command="rename", old_path=NOTES, new_path="/memories/torn.md")
    [*_, journal] = sorted(directory.glob("journal*/*"), key=lambda path: path.stat().st_mtime)
    journal.write_bytes(journal.read_bytes()[:-20])
    async with serving(spec, engine()) as server:
        index = (await server.client.get(f"/v1/episodes/{episode}/memory")).json()
        names = {file["name"] for file in index["files"]}
        assert "notes.md" in names
        assert "torn.md" not in names
        await act(server, episode, table, 1)


class Failing(ScriptedEngine):
    """Fails where it is told to."""

    is_failing = False

    async def generate(self, request: GenerateRequest) -> Completion:
        if self.is_failing:
            raise EngineError("the engine is being moved")
        return await super().generate(request)


async def test_no_command_comes_between_an_act_and_its_retry(tmp_path: Path) -> None:
    failing = Failing(PerfectMemoryPlayer())
    async with serving(make_served_spec(tmp_path), failing) as server:
        episode, body = (await server.create(world="concentration"))["id"], Table().body()
        path, view = (
            f"/v1/episodes/{episode}/tools/memory",
            {"command": "view", "path": "/memories"},
        )
        failing.is_failing = True
        assert (await server.act(episode, key="one", **body)).status_code == 503
        answer = await server.client.post(path, json=view)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "act_pending")
        failing.is_failing = False
        assert (await server.act(episode, key="one", **body)).status_code == 200
        assert (await server.client.post(path, json=view)).status_code == 200


async def test_changes_from_outside_are_in_trace_tables_and_story(
    server: Server, tmp_path: Path
) -> None:
    episode, table = (await server.create(world="concentration"))["id"], Table()
    await act(server, episode, table, 0)
    await use(server, episode, command="create", path=NOTES, file_text="outside\n")
    directory = server.context.episodes.store.directory("local", episode)
    await play(server, episode, table, lambda _: None)
    events = read_events(directory)
    assert [event.step for event in events if isinstance(event, ToolUsed)] == [1]
    assert any(isinstance(event, OpDone) for event in events)
    told = tell(events)
    assert TOOL_CAUSE in [cause for cause, _ in told.steps[0].own_changes]
    run = tmp_path / "served" / "tenants" / "local"
    found = query([run], f"select step, file from ops where cause = '{TOOL_CAUSE}'")
    assert found.rows == [(1, "notes.md")]
