"""As many NetHack sessions in one worker process as a worker takes by default."""

from pathlib import Path

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")

from support.counted_nethack import CountedNetHack
from support.toy_world import toy_spec

from automem.rollout.run import run_rollout
from automem.rollout.spec import EngineSpec, WorldSpec

SESSIONS = 256
CALL_S = 0.5
"""A model call: long enough for all games to have begun before the first ends."""


@pytest.mark.slow
def test_one_worker_process_plays_256_sessions_at_once(tmp_path: Path) -> None:
    engine = {
        "_target_": "automem.engine.scripted.ScriptedEngine",
        "player": {"_target_": "automem_envs.nethack.NetHackPlayer"},
        "latency_s": CALL_S,
    }
    spec = toy_spec(
        world=WorldSpec("nethack", {"_target_": "support.counted_nethack.CountedNetHack"}),
        engines={"base": EngineSpec(target=engine, placement="worker")},
        seeds=range(SESSIONS),
        max_steps=4,
    )
    assert spec.sessions_per_worker == SESSIONS
    result = run_rollout(spec, tmp_path / "run")
    assert not {episode.reason for episode in result.pending}
    assert len(result.finished) == SESSIONS
    assert not any(episode.is_player_failure for episode in result.finished)
    assert CountedNetHack.most == SESSIONS
    assert not CountedNetHack.on
