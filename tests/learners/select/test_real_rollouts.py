"""Selection from episodes that the platform really played: what it takes is right by the deck."""

import importlib.util
from pathlib import Path

import pytest

from automem.cli import main
from automem_learners.select.run import select
from automem_learners.select.selector import provenance
from automem_learners.select.thinning import Thinning

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("selection", ROOT / "benchmarks" / "selection.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rollout(folder, *more):
    words = ["rollout", "engine=scripted", "rollout.workers=0", "rollout.seeds=train", *more]
    assert main([*words, f"run.dir={folder}"]) == 0
    return folder


@pytest.mark.slow
def test_what_is_selected_from_sloppy_games_is_right_far_above_the_base_rate(tmp_path, benchmark):
    run = rollout(
        tmp_path / "run",
        "env=concentration",
        "rollout.episodes=40",
        "env.player._target_=automem_envs.concentration.players.SloppyPlayer",
    )
    select([run], provenance(), Thinning(), tmp_path / "s")
    found = benchmark.precision(run, tmp_path / "s")
    assert found["write"]["selected"] > 60
    assert found["write"]["precision"] >= 0.95 > 0.85 > found["write"]["base_rate"]
    for kind in ("consult", "plan_nothing", "log_nothing"):
        assert found[kind]["selected"] > 20, kind
        assert found[kind]["precision"] >= 0.95, kind


def test_crafter_yields_writes_and_consultations_too(tmp_path):
    run = rollout(tmp_path / "run", "env=crafter", "rollout.episodes=2", "rollout.max_steps=120")
    report = select([run], provenance(), Thinning(), tmp_path / "s")
    assert report["kinds"]["write"]["selected"] > 0
    assert report["kinds"]["consult"]["selected"] > 0
    assert report["notes"]["evidence in crafter"].startswith("preceded")
