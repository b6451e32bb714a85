"""Rival memories in whole runs: the same traces however they are hosted, and after a death."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.drivers import assert_same_traces, memory_of
from support.toy_world import toy_spec

from automem.agent.memories.options import RIVALS
from automem.rollout.ray_local import connected
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.worker import Worker


def spec_of(memory: str, **changes: Any) -> Any:
    recall = {"tokens": 80, "entries": 3, "seen": "step {number} lamp {colour}"}
    return toy_spec(
        agent={"memory": memory, "recall": recall, "knowledge": "the lamp is red, green or blue"},
        **changes,
    )


@pytest.mark.parametrize("memory", RIVALS)
async def test_a_run_stopped_in_its_midst_ends_as_an_undisturbed_one(
    tmp_path: Path, memory: str
) -> None:
    await asyncio.to_thread(run_rollout, spec_of(memory), tmp_path / "whole")
    slow = spec_of(memory, latency_s=0.01, sessions_per_worker=2)
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    worker = Worker(slow, str(stopped))
    await worker.start()
    await worker.play(list(slow.episodes))
    await asyncio.sleep(0.2)
    assert (await worker.drain()).running == 0
    worker = Worker(spec_of(memory), str(stopped))
    await worker.start()
    await worker.play(list(slow.episodes))
    while len(list(stopped.glob("episodes/*/episode.json"))) < 3:
        await worker.pulse(0.1)
    assert_same_traces(stopped, tmp_path / "whole")
    for name in ("toy-0-0", "toy-1-0", "toy-2-0"):
        episode = Path("episodes") / name
        assert memory_of(stopped / episode) == memory_of(tmp_path / "whole" / episode)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["bm25", "full"])
def test_eight_workers_write_the_traces_of_one(tmp_path: Path, memory: str) -> None:
    seeds = {"seeds": range(8)}
    assert run_rollout(spec_of(memory, **seeds), tmp_path / "one").is_complete
    with connected():
        assert run_rollout(spec_of(memory, **seeds, workers=8), tmp_path / "many").is_complete
    assert_same_traces(tmp_path / "many", tmp_path / "one")
    assert resume_run(tmp_path / "many").is_complete


def test_the_policy_of_a_run_names_its_memory(tmp_path: Path) -> None:
    result = run_rollout(spec_of("window", seeds=[1]), tmp_path)
    assert result.is_complete
    text = (tmp_path / "episodes/toy-1-0/journal/0001.jsonl").read_text()
    assert "+window+knowledge@" in text
