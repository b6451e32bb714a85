"""`automem run`: mistakes of either loop told early; both loops, the table, and on for nothing."""

import json
from pathlib import Path

import pytest
from support.evolve_parts import showing
from support.loop_parts import SkillTrainer
from support.skilled_engine import TARGET

from automem import cli
from automem.commands.run import config_of
from automem.loops.reviewers.interface import ReviewRequest, Revision, Toolbox
from automem.loops.run_results import read_results

SMALL = [
    "env=concentration", "env.world.cards=8", "env.world.max_steps=12", "rollout.workers=0",
    "revisions=1", "attempts=1", "at_once=1", "continuations=0", "study.episodes=1",
    "smoke.episodes=0", "gate.confirmations=1", "gate.pairs=12", "gate.race=[]", "gate.alpha=0.999",
    "gate.flips=1999", "gate.minimum_gain=-1.0", "finalize.games=2", "games=3",
    "training_seeds=[0,1]",
    "proficiency.rounds=1", "proficiency.gate.confirmations=1", "proficiency.gate.pairs=8",
    "proficiency.gate.race=[]", "proficiency.gate.alpha=0.9", "proficiency.gate.flips=99",
    "proficiency.decider.recipes=[{data: {episodes: 1}, trainings: [{skill: good}]}]",
]  # fmt: skip


class Reviewer:
    """One file, whose last ten lines are shown, with a line for each card."""

    name = "scripted"

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        files = dict(showing(10))
        text = files["scaffold.yaml"].replace("  - {name: notes.txt}\n", "")
        files["scaffold.yaml"] = text.replace("[SEARCH, APPEND]", "[SEARCH, UPSERT]")
        return Revision(files=files, reasons="one file, shown", reviewer=self.name)


class Trainer(SkillTrainer):
    """Takes what conf/proficiency.yaml gives a trainer."""

    def __init__(self, **settings: object) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("automem_learners.specialist.SpecialistTrainer", Trainer)
    for group, text in {
        "engine/skilled": "name: skilled\nplacement: worker\nmodel: base\noutage: ''\n"
        f"sampling: {{}}\ntarget:\n  _target_: {TARGET}\n"
        "  model: ${engine.model}\n  outage: ${engine.outage}\n",
        "reviewer/shown": f"_target_: {__name__}.Reviewer\n",
    }.items():
        path = tmp_path / "conf" / f"{group}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return [*SMALL, "engine=skilled", "reviewer=shown", "--config-dir", str(tmp_path / "conf")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["revision=3"], "unknown key 'revision'; did you mean 'revisions'"),
        (["experiment=embeded"], "did you mean 'embedded'"),
        (["learner=lokal"], "did you mean 'local'"),
        (["proficiency.round=1"], "proficiency: unknown key 'round'; did you mean"),
        (["proficiency.gate.alpha=2"], "proficiency: gate: the gate needs"),
        (["gate.alpha=2"], "automem: gate: the gate needs"),
        (["+rivals.x={memory: bm52}"], "rivals.x: no agent.memory 'bm52'; did you mean 'bm25'"),
        (["+rivals.evolved={memory: none}"], "would share a folder"),
        (["games=1"], "games must be at least 2"),
        (["agent.knowledge=nowhere.txt"], "nowhere.txt cannot be read: No such file"),
        (["engine=scripted"], "proficiency: engine=scripted has no model to train"),
    ],
)
def test_a_mistake_is_told_before_anything_is_played(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", *words]) == cli.USAGE
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert list(Path().glob("runs/*")) == []


def test_both_trees_take_the_experiment_and_what_is_played_each_its_own_keys() -> None:
    words = ["experiment=embedded", "rollout.workers=2", "revisions=4", "proficiency.rounds=1"]
    config = config_of([*words, "proficiency.gate.pairs=33", "gate.pairs=44"], None)
    assert (config.rollout.workers, config.proficiency.rollout.workers) == (2, 2)
    assert (config.revisions, config.proficiency.rounds) == (4, 1)
    assert (config.gate.pairs, config.proficiency.gate.pairs) == (44, 33)
    assert config.study.episodes == 24  # conf/evolve/embedded.yaml
    assert config.proficiency.learner.recipe.max_steps == 120  # conf/proficiency/embedded.yaml
    assert config.rivals["BM25 log"].recall.write == "{card} {rank}"  # conf/run/embedded.yaml
    assert config.engine.sampling.max_tokens == config.proficiency.engine.sampling.max_tokens == 48


def test_a_knowledge_file_is_found_again_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("two cards of a rank are a pair")
    config = config_of(["agent.knowledge=facts.txt"], None)
    named = str(tmp_path / "facts.txt")
    assert config.agent.knowledge == config.proficiency.agent.knowledge == named


@pytest.mark.slow
def test_both_loops_end_in_one_table_and_the_same_folder_goes_on_for_nothing(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", *small, "run.dir=runs/both"]) == 0
    printed = capsys.readouterr().out
    assert "structure and training" in printed, printed
    assert "Written: runs/both/results-of-both.json" in printed
    folder = tmp_path / "runs" / "both"
    results = read_results(folder)
    assert [arm.name for arm in results.arms] == [
        "v0", "evolved", "v0 + trained", "evolved + trained",
        "no memory", "window", "full context", "BM25 log", "rolling summary",
    ]  # fmt: skip
    assert results.square is not None
    assert set(results.arms[2].by_training_seed) == {0, 1}
    assert "Structure and training" in (folder / "report.html").read_text()
    draws = [json.loads(line) for line in (folder / "seeds.jsonl").read_text().splitlines()]
    confirmed = [(d["offset"], d["count"]) for d in draws if d["range"] == "confirm"]
    assert len(confirmed) == 5  # one of the evolution, two trainings on each of two scaffolds
    assert sorted(confirmed) == [(0, 12), (12, 8), (20, 8), (28, 8), (36, 8)]
    played = {path: path.stat().st_mtime_ns for path in folder.rglob("journal/*.jsonl")}
    again = ["run.dir=runs/both", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(["run", *again]) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("journal/*.jsonl")} == played
    assert read_results(folder).arms == results.arms
    assert cli.main(["lineage", "runs/both", "--tree"]) == 0
    assert "n1" in capsys.readouterr().out
