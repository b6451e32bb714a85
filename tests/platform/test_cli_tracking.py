"""What a loop from the command line leaves in W&B, offline: curves, table of arms, artifacts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.loop_parts import SkillTrainer
from support.skilled_engine import TARGET
from support.tracked import artifacts, curve, eventually, offline_parts, table

from automem import cli
from automem.errors import InfrastructureError
from automem.loops.evolve_results import NodeResult, Results, figures
from automem.loops.experiment import read_results
from automem.loops.gate import Rule, confirm
from automem.loops.recipes import DataRecipe, Selected, Specialist
from automem.tracker import Tracker, open_tracker

SMALL = [
    "env=concentration", "env.world.cards=8", "env.world.max_steps=12", "rollout.workers=0",
    "rounds=1", "report.games=2", "gate.confirmations=1", "gate.pairs=4", "gate.race=[2]",
    "gate.alpha=0.5", "gate.flips=999", "training_seeds=[0,1]", "engine=skilled",
    "~report.arms", "+report.arms={base: {}, specialist: {memory: champion}}",
    "decider.recipes=[{data: {episodes: 1}, trainings: [{skill: good}]}]",
]  # fmt: skip


class Trainer(SkillTrainer):
    """Writes what a real one does; its machine is lost once, in the second seed's training."""

    is_lost = True

    def __init__(self, **settings: object) -> None:
        super().__init__()

    def select(self, runs: Sequence[Path], data: DataRecipe, folder: Path, seed: int) -> Selected:
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
        return super().select(runs, data, folder, seed)

    def train(
        self,
        selected: Selected,
        training: Mapping[str, Any],
        folder: Path,
        seed: int,
        start: Specialist | None,
        tracker: Tracker,
    ) -> Specialist:
        made = super().train(selected, training, folder, seed, start, tracker)
        if seed == 1 and Trainer.is_lost:
            Trainer.is_lost = False
            raise InfrastructureError("the machine is gone")
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter/weights").write_text(f"seed {seed}")
        card = {"name": f"s{seed}", "path": "adapter", "dataset": f"d{seed}"}
        (folder / "adapter.json").write_text(json.dumps(card))
        return made


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a small experiment; no key, no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setattr("automem_learners.specialist.SpecialistTrainer", Trainer)
    monkeypatch.setattr(Trainer, "is_lost", True)
    (tmp_path / "conf" / "engine").mkdir(parents=True)
    (tmp_path / "conf" / "engine" / "skilled.yaml").write_text(
        "name: skilled\nplacement: worker\nmodel: base\noutage: ''\nsampling: {}\n"
        f"target:\n  _target_: {TARGET}\n"
        "  model: ${engine.model}\n  outage: ${engine.outage}\n"
    )
    return [*SMALL, "--config-dir", str(tmp_path / "conf")]


def test_a_loop_is_one_wandb_run_with_all_seeds_arms_and_artifacts(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import openai  # noqa: F401 - a reviewer's library, of which W&B would have something to say

    words = ["proficiency", *small, "tracker=wandb", "run.dir=whole"]
    assert cli.main(words) == cli.PENDING
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert "wandb: " not in printed + captured.err  # its own lines would break up ours
    assert "tracker: WANDB_RESUME=allow wandb sync whole/wandb/offline-run-*" in printed
    whole = tmp_path / "whole"
    parts = offline_parts(whole)
    assert len(parts) == 2
    assert {part.stem for part in parts} == {f"run-{(whole / 'wandb-id').read_text().strip()}"}

    wanted = {"traces-whole", "turns-d0", "turns-d1", "s0", "s1"}
    assert eventually(lambda: wanted <= artifacts(whole).keys())
    found = artifacts(whole)
    assert json.loads(found["s0"].metadata)["trained_from"] == "turns-d0"
    held = {entry.path for entry in found["traces-whole"].manifest.contents}
    assert {"seed-0/ledger.jsonl", "seed-1/ledger.jsonl", "results.json"} <= held
    assert any(path.startswith("arms/base/tables/") for path in held)

    losses = [curve(whole, f"seed-{seed}/train/loss", f"seed-{seed}/step") for seed in (0, 1)]
    assert losses == [[(1, 0.5)], [(1, 0.5), (1, 0.5)]]
    assert [place for place, _ in curve(whole, "seed-1/round", "seed-1/step")] == [7 + 1]
    arms = {arm.name: arm for arm in read_results(whole).arms}
    rows = {row["arm"]: row for row in table(whole, "arms")}
    for name, arm in arms.items():
        assert (rows[name]["mean"], (rows[name]["low95"], rows[name]["high95"])) == (
            arm.mean,
            arm.interval,
        )
    assert (rows["base"]["n"], rows["base"]["of"]) == (2, "games")
    assert (rows["specialist"]["n"], rows["specialist"]["of"]) == (2, "training seeds")
    assert [row["training_seed"] for row in table(whole, "by_seed")] == [0, 1]


@pytest.mark.usefixtures("small")
def test_an_evolved_scaffold_has_a_table_of_nodes_with_intervals(tmp_path: Path) -> None:
    rule = Rule(confirmations=1, pairs=4, race=(), flips=999, alpha=0.5)
    found = confirm(rule, {"toy": [(0.5, 0.25), (0.75, 0.25), (0.5, 0.5), (0.5, 0.25)]})
    node = NodeResult(
        id="n1", parent="n0", slot="", version="v", title="", verdict="accepted", reason="",
        confirm=found.difference, p=found.p,
    )  # fmt: skip
    results = Results(
        created=0, seconds=0, world="toy", model="m", reviewer="r", rule=rule, confirmations_used=1,
        champion="n1", detectable_gain=None, nodes=[node], lapsed=[],
    )  # fmt: skip
    tracker = open_tracker({"name": "wandb", "artifacts": False}, tmp_path, {})
    tracker.finish(figures(results))
    [row] = table(tmp_path, "nodes")
    assert (row["node"], row["verdict"], row["p"]) == ("n1", "accepted", found.p)
    assert row["confirm_gain"] == found.difference.mean
    assert (row["confirm_low95"], row["confirm_high95"]) == found.difference.ci95
    assert row["race_gain"] is None
