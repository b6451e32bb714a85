"""A death after any record: whoever serves next gives the same answers, nothing is done twice."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.served_policy import Server, Table, make_served_spec, serving

from automem.engine.scripted import ScriptedEngine
from automem.rollout.chain import iter_lines, journal_path, read_events
from automem.trace.compare import first_difference
from automem_envs.concentration.players import PerfectMemoryPlayer

CARDS, STEPS = 4, 3


async def play_with_keys(server: Server, episode: str) -> list[dict[str, Any]]:
    """Every act of the game with its key, from the first on, whatever was answered before."""
    table, answers = Table(cards=CARDS), []
    for number in range(STEPS + 1):
        answer = await server.act(episode, key=f"key-{number}", step=number, **table.body())
        assert answer.status_code == 200, answer.text
        answers.append(answer)
        if answer.json()["done"]:
            break
        table.take(answer.json()["action"])
    return [without_clock(answer.json()) for answer in answers]


def without_clock(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "usage": {**answer["usage"], "model_s": 0.0}}


@pytest.mark.slow
async def test_a_death_after_any_record_changes_no_answer_and_no_memory(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path)
    episodes = tmp_path / "served" / "tenants" / "local" / "episodes"
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        made = await server.create(world="concentration", max_steps=STEPS)
        directory = episodes / made["id"]
        pinned = (directory / "served.json").read_bytes()
        whole = await play_with_keys(server, made["id"])
        memory = (await server.client.get(f"/v1/episodes/{made['id']}/diff")).json()
        lines = list(iter_lines(directory))
        events = read_events(directory)
    assert whole[-1]["stop"] == "cap"
    for count in range(len(lines) + 1):
        shutil.rmtree(directory)
        journal_path(directory, 1).parent.mkdir(parents=True)
        (directory / "served.json").write_bytes(pinned)
        torn = lines[count][:20] if count < len(lines) else b""
        journal_path(directory, 1).write_bytes(b"".join(lines[:count]) + torn)
        async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
            assert await play_with_keys(server, made["id"]) == whole, count
            after = (await server.client.get(f"/v1/episodes/{made['id']}/diff")).json()
            assert after == memory, count
        assert first_difference(events, read_events(directory)) == "", count
