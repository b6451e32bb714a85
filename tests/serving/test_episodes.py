"""Episodes over HTTP: the agent of the rollouts, driven by a caller."""

import asyncio
from pathlib import Path

import pytest
from support.served_policy import Server, Table, make_served_spec, play, serving

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem.rollout.chain import read_events
from automem.trace.events import Attempt, Committed, Observed
from automem.trace.query import query
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving import exclusive as locks


class Patient(ScriptedEngine):
    """Plays by script, waits where it is told to, breaks where it is told to."""

    def __init__(self) -> None:
        super().__init__(PerfectMemoryPlayer())
        self.asked = asyncio.Event()
        self.failing = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def generate(self, request: GenerateRequest) -> Completion:
        self.asked.set()
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise EngineError("the engine is being moved")
        return await super().generate(request)


def events_of(server: Server, tenant: str, episode: str, kind: type) -> list:
    directory = server.context.episodes.store.directory(tenant, episode)
    return [event for event in read_events(directory) if isinstance(event, kind)]


async def test_a_game_is_played_over_http_to_its_end(server: Server) -> None:
    episode = await server.create(world="concentration")
    table, answers = Table(), []
    await play(server, episode["id"], table, answers.append)
    reached, stop = table.outcome["progression"], table.stop
    assert reached >= 0.5
    assert answers[-1]["done"] is True
    assert (answers[-1]["action"], answers[-1]["stop"]) == (None, stop)
    written = [op for answer in answers for op in answer["operations"] if op["op"] == "APPEND"]
    assert written[0]["routine"] == "log"
    assert written[0]["arguments"]["file"] == "cards.txt"
    assert written[0]["result"] == "ok"
    assert answers[1]["usage"]["calls"] >= 2
    state = (await server.client.get(f"/v1/episodes/{episode['id']}")).json()
    assert (state["done"], state["stop"], state["progression"]) == (True, stop, reached)


async def test_finished_episodes_can_be_queried_as_a_run(server: Server, tmp_path: Path) -> None:
    episode = await server.create(world="concentration")
    table = Table()
    await play(server, episode["id"], table, lambda _: None)
    run = tmp_path / "served" / "tenants" / "local"
    answer = query([run], "select episode, policy, stop from episodes")
    assert answer.rows == [(episode["id"], "v1", table.stop)]


async def test_reaching_the_cap_ends_the_episode_with_its_last_log(server: Server) -> None:
    episode = await server.create(world="concentration", max_steps=2)
    table, answers = Table(), []
    await play(server, episode["id"], table, answers.append)
    assert [answer["stop"] for answer in answers] == [None, None, "cap"]
    assert answers[-1]["operations"][0]["routine"] == "log"


async def test_memory_and_its_changes_can_be_looked_at(server: Server) -> None:
    episode = (await server.create(world="concentration"))["id"]
    table = Table()
    for _ in range(3):
        table.take((await server.act(episode, **table.body())).json()["action"])
    client, path = server.client, f"/v1/episodes/{episode}"
    index = (await client.get(f"{path}/memory")).json()
    assert {file["name"]: file["lines"] for file in index["files"]}["cards.txt"] == 2
    text = (await client.get(f"{path}/memory/cards.txt")).text
    assert len(text.splitlines()) == 2
    since_first = (await client.get(f"{path}/diff", params={"since": 1})).json()
    [change] = since_first["files"]
    assert change["file"] == "cards.txt"
    assert f"+{text.splitlines()[1]}" in change["diff"].splitlines()
    assert f"+{text.splitlines()[0]}" not in change["diff"].splitlines()
    everything = (await client.get(f"{path}/diff")).json()
    assert {one["change"] for one in everything["files"]} == {"added"}
    assert (await client.get(f"{path}/diff", params={"since": 3})).status_code == 422


async def test_a_retried_act_gets_the_same_answer_and_acts_once(server: Server) -> None:
    episode = (await server.create(world="concentration"))["id"]
    table = Table()
    first = await server.act(episode, key="one", **table.body())
    again = await server.act(episode, key="one", **table.body())
    assert again.content == first.content
    assert (first.headers["idempotent-replayed"], again.headers["idempotent-replayed"]) == (
        "false",
        "true",
    )
    table.take(first.json()["action"])
    second = await server.act(episode, key="two", **table.body())
    assert second.json()["step"] == 1
    assert (await server.act(episode, key="one", **Table().body())).content == first.content
    assert len(events_of(server, "local", episode, Committed)) == 2


async def test_a_retry_after_the_end_gets_the_same_answer_too(server: Server) -> None:
    episode = (await server.create(world="concentration", max_steps=1))["id"]
    table = Table()
    first = await server.act(episode, key="one", **table.body())
    table.take(first.json()["action"])
    last = await server.act(episode, key="two", **table.body())
    assert last.json()["done"]
    assert (await server.act(episode, key="two", **table.body())).content == last.content
    assert (await server.act(episode, key="one", **Table().body())).content == first.content
    over = await server.act(episode, key="three", **table.body())
    assert (over.status_code, over.json()["error"]["code"]) == (409, "episode_over")


@pytest.mark.parametrize(
    "other",
    [
        {"observation": "another"},
        {"outcome": {"progression": 0.5}},
        {"outcome": {"progression": 0.0, "info": {"a": 1}}},
        {"step": 7},
    ],
)
async def test_the_same_key_with_another_body_is_refused(server: Server, other: dict) -> None:
    episode = (await server.create(world="concentration"))["id"]
    body = Table().body()
    assert (await server.act(episode, key="one", **body)).status_code == 200
    refused = await server.act(episode, key="one", **(body | other))
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert len(events_of(server, "local", episode, Committed)) == 1


async def test_acts_at_the_same_moment_come_one_after_the_other(tmp_path: Path) -> None:
    engine = Patient()
    async with serving(make_served_spec(tmp_path), engine) as server:
        episode = (await server.create(world="concentration"))["id"]
        engine.gate.clear()
        body = Table().body()
        same = [asyncio.create_task(server.act(episode, key="one", **body)) for _ in range(4)]
        other = asyncio.create_task(server.act(episode, key="two", step=0, **body))
        await engine.asked.wait()
        engine.gate.set()
        answers = await asyncio.gather(*same)
        assert len({answer.content for answer in answers}) == 1
        assert (await other).status_code == 409
        assert len(events_of(server, "local", episode, Committed)) == 1


async def test_a_caller_that_goes_away_does_not_stop_its_act(tmp_path: Path) -> None:
    engine = Patient()
    async with serving(make_served_spec(tmp_path), engine) as server:
        episode = (await server.create(world="concentration"))["id"]
        engine.gate.clear()
        body = Table().body()
        gone = asyncio.create_task(server.act(episode, key="one", **body))
        await engine.asked.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        engine.gate.set()
        retried = await server.act(episode, key="one", **body)
        assert retried.headers["idempotent-replayed"] == "true"
        assert len(events_of(server, "local", episode, Observed)) == 1


async def test_an_engine_that_fails_leaves_the_act_to_be_retried(tmp_path: Path) -> None:
    engine = Patient()
    async with serving(make_served_spec(tmp_path), engine) as server:
        episode = (await server.create(world="concentration"))["id"]
        body = Table().body()
        engine.failing = 1
        failed = await server.act(episode, key="one", **body)
        assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
        assert "being moved" not in failed.text
        state = (await server.client.get(f"/v1/episodes/{episode}")).json()
        assert (state["step"], state["pending_key"]) == (0, "one")
        other = await server.act(episode, key="two", **body)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "act_pending")
        retried = await server.act(episode, key="one", **body)
        assert retried.status_code == 200
        assert len(events_of(server, "local", episode, Observed)) == 1


async def test_episodes_go_on_after_a_restart_with_their_memory(tmp_path: Path) -> None:
    spec, table = make_served_spec(tmp_path), Table()
    async with serving(spec, Patient()) as server:
        episode = (await server.create(world="concentration"))["id"]
        for number in range(3):
            answer = await server.act(episode, key=str(number), **table.body())
            table.take(answer.json()["action"])
        before = (await server.client.get(f"/v1/episodes/{episode}/memory/cards.txt")).text
    async with serving(spec, Patient()) as server:
        assert (await server.client.get(f"/v1/episodes/{episode}/memory/cards.txt")).text == before
        again = await server.act(episode, key="0", **Table().body())
        assert again.headers["idempotent-replayed"] == "true"
        last: list[dict] = []
        await play(server, episode, table, last.append)
    assert (last[-1]["done"], last[-1]["stop"]) == (True, table.stop)
    assert table.outcome["progression"] >= 0.5


async def test_two_replicas_take_turns_in_one_episode(tmp_path: Path) -> None:
    spec, table = make_served_spec(tmp_path), Table()
    async with serving(spec, Patient()) as one, serving(spec, Patient()) as other:
        episode = (await one.create(world="concentration"))["id"]
        for number in range(6):
            server = (one, other)[number % 2]
            answer = await server.act(episode, key=str(number), **table.body())
            assert answer.json()["step"] == number
            table.take(answer.json()["action"])
        retried = await other.act(episode, key="0", **Table().body())
        assert retried.headers["idempotent-replayed"] == "true"
        assert len(events_of(one, "local", episode, Committed)) == 6


async def test_a_slow_act_is_waited_for_by_every_replica(tmp_path: Path) -> None:
    slow, spec = Patient(), make_served_spec(tmp_path, takeover_s=0.1)
    async with serving(spec, slow) as one, serving(spec, Patient()) as other:
        episode = (await one.create(world="concentration"))["id"]
        slow.gate.clear()
        act = asyncio.create_task(one.act(episode, key="one", **Table().body()))
        await slow.asked.wait()
        view = {"command": "view", "path": "/memories"}
        path = f"/v1/episodes/{episode}/tools/memory"
        others = [
            asyncio.create_task(other.client.post(path, json=view)),
            asyncio.create_task(other.act(episode, key="one", **Table().body())),
        ]
        assert not (await asyncio.wait(others, timeout=0.6))[0]
        slow.gate.set()
        looked, again = await asyncio.gather(*others)
        assert ((await act).status_code, looked.status_code) == (200, 200)
        assert again.content == (await act).content
        assert len(events_of(one, "local", episode, Attempt)) == 2


async def test_a_replica_that_stalls_loses_the_episode_and_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_sign(descriptor: int, every_s: float) -> None:
        """As of a process that was stopped."""

    stalled, spec = Patient(), make_served_spec(tmp_path, takeover_s=0.1)
    async with serving(spec, stalled) as one, serving(spec, Patient()) as other:
        episode = (await one.create(world="concentration"))["id"]
        body = Table().body()
        stalled.gate.clear()
        monkeypatch.setattr(locks, "_sign", no_sign)
        waiting = asyncio.create_task(one.act(episode, key="one", **body))
        await stalled.asked.wait()
        taken = await other.act(episode, key="one", **body)
        assert taken.status_code == 200
        stalled.gate.set()
        late = await waiting
        assert late.status_code == 503
        assert (await one.act(episode, key="one", **body)).content == taken.content
        assert len(events_of(one, "local", episode, Committed)) == 1
        assert len(events_of(one, "local", episode, Attempt)) >= 3


async def test_what_is_deleted_is_gone(server: Server, tmp_path: Path) -> None:
    episode = await server.create(world="concentration")
    await play(server, episode["id"], Table(), lambda _: None)
    path = f"/v1/episodes/{episode['id']}"
    assert (await server.client.delete(path)).status_code == 204
    for answer in (
        await server.client.get(path),
        await server.client.delete(path),
        await server.client.get(f"{path}/memory"),
        await server.act(episode["id"], "x"),
    ):
        assert answer.status_code == 404
    left = [path for path in (tmp_path / "served").rglob("*") if episode["id"] in path.name]
    assert left == []


async def test_memory_since_the_last_act_is_known_as_since_any_other(server: Server) -> None:
    episode = (await server.create(task="t", max_steps=1))["id"]
    for number in range(2):
        answer = await server.act(episode, f"{number}")
    assert answer.json()["done"]
    path = f"/v1/episodes/{episode}/diff"
    answers = [await server.client.get(path, params={"since": since}) for since in (0, 1, 2)]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert answers[1].json()["files"] == []


async def test_an_observation_that_fits_no_window_ends_the_episode(tmp_path: Path) -> None:
    class Small(Patient):
        async def capabilities(self):
            found = await super().capabilities()
            return type(found)(model=found.model, context_tokens=600)

    async with serving(make_served_spec(tmp_path), Small()) as server:
        episode = (await server.create(world="concentration"))["id"]
        answer = (await server.act(episode, "word " * 2000)).json()
        assert (answer["done"], answer["stop"]) == (True, "player_failed")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"world": "concentration", "task": "both"},
        {"world": "chess"},
        {"task": "x", "scaffold": "../../etc"},
        {"task": "x", "scafold": "v0"},
        {"task": "x", "max_steps": 0},
    ],
)
async def test_requests_that_mean_nothing_are_refused(server: Server, body: dict) -> None:
    answer = await server.client.post("/v1/episodes", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


async def test_a_task_of_ones_own_is_what_the_agent_is_told(server: Server) -> None:
    episode = await server.create(task="Find the exit.", scaffold="v0", fallback_action="look")
    assert episode["world"] == "task"
    assert episode["scaffold"].startswith("v0@")
    directory = server.context.episodes.store.directory("local", episode["id"])
    pinned = server.context.episodes.store.read(directory)
    assert pinned.started.instruction == "Find the exit."
    assert pinned.started.fallback_action == "look"
