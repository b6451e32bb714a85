"""`automem run`: mistakes of either loop told early; both loops, the table, and on for nothing."""

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from support.evolve_parts import showing
from support.loop_parts import SkillTrainer
from support.skilled_engine import TARGET

from automem import cli
from automem.commands.loop_config import keep_config
from automem.commands.run import DECIDES as DECIDES_IN_RUN
from automem.commands.run import MAY_CHANGE as MAY_CHANGE_IN_RUN
from automem.commands.run import Parts, config_of
from automem.errors import UsageError
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
        (["proficiency.training_seeds=[7]"], "nothing reads it here; use training_seeds"),
        (["proficiency.report.games=9"], "proficiency.report.games: nothing reads it here"),
        (["proficiency.controls=null"], "a run has none"),
        (["proficiency.env=crafter"], "both loops play the same; say env=crafter"),
        (["proficiency.rollout.max_steps=5"], "say rollout.max_steps=5"),
        (["+rivals.x={}"], "rivals.x changes nothing, so it would be v0 under another name"),
        (["+rivals.x={memory: window, recall: {entires: 3}}"], "did you mean 'entries'"),
        (["+rivals.evolved_n3={memory: none}"], "would share a folder"),
        (["training_seeds=[-1]"], "training_seeds must be 0 or more, got -1"),
        (["games=20000000"], "games must be at least 2 and at most 10,000,000"),
        (["agent.memory=bm25"], "agent.memory=bm25: the loops improve memory that the model keeps"),
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


def test_a_rival_that_is_null_is_not_played() -> None:
    plan = Parts(config_of(["experiment=embedded", "rivals.window=null"], None)).plan
    assert "window" not in plan.rivals
    assert "full context" in plan.rivals


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run's folder, its structure loop declared, made with an earlier version."""
    folder = tmp_path / "RUN"
    folder.mkdir()
    config = config_of(["experiment=embedded", "training_seeds=[0,1]"], None)
    with open_dict(config):
        del config.agent.guided  # a key that came later
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "lineage.jsonl").write_text("")
    return folder


def kept(folder: Path, *words: str) -> DictConfig:
    """What is in the folder once a run goes on with these words."""
    config = config_of([f"run.dir={folder}", *words], None)
    keep_config(config, folder, True, MAY_CHANGE_IN_RUN, DECIDES_IN_RUN)
    loaded = OmegaConf.load(folder / "config.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def test_what_may_change_of_a_begun_run_is_written_down_again(begun: Path) -> None:
    words = ["training_seeds=[0,1,2]", "proficiency.rounds=2", "rollout.workers=3"]
    config = kept(begun, *words, "~rivals.window", "+rivals.small={memory: window}")
    assert config.training_seeds == [0, 1, 2]
    assert (config.proficiency.rounds, config.proficiency.rollout.workers) == (2, 3)
    assert set(config.rivals) >= {"small", "full context"}
    assert "window" not in config.rivals
    assert kept(begun).training_seeds == [0, 1, 2]


def test_the_whole_command_again_goes_on_where_a_later_version_has_more_keys(begun: Path) -> None:
    assert kept(begun, "experiment=embedded").agent.guided is False


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("proficiency.learner.recipe.learning_rate=1e-9",
         "proficiency.learner.recipe.learning_rate: 0.003 then, 1e-09 now"),
        ("proficiency.selector=all", "proficiency.selector: provenance then, all now"),
        ("proficiency.decider.recipes=[{data: {episodes: 9}}]", "proficiency.decider.recipes: "),
        ("proficiency.lerner.recipe.max_steps=3", "did you mean 'learner.recipe.max_steps'"),
        ("learner=zero", "goes on with the training that it was begun with"),
        ("proficiency.gate.pairs=9", "proficiency.gate.pairs: 64 then, 9 now"),
        ("at_once=1", "at_once: 3 then, 1 now"),
        ("smoke.episodes=1", "smoke.episodes: 2 then, 1 now"),
        ("games=9", "games: 50 then, 9 now"),
        ("rollout.max_steps=9", "rollout.max_steps: None then, 9 now"),
        ("agent.dialect=tools", "agent.dialect: tags then, tools now"),
    ],
)  # fmt: skip
def test_whatever_else_would_change_of_a_begun_run_is_refused(
    begun: Path, word: str, told: str
) -> None:
    before = (begun / "config.yaml").read_bytes()
    with pytest.raises(UsageError) as error:
        kept(begun, word)
    assert told in str(error.value)
    assert (begun / "config.yaml").read_bytes() == before


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
    page = (folder / "report.html").read_text()
    assert "How the scaffold came about" in page
    assert "v0 + trained, training seed 0" in page
    assert cli.main(["lineage", "runs/both"]) == 0
    told = capsys.readouterr().out
    assert "n1" in told
    assert cli.main(["run", *again, "training_seeds=[0,1,2]"]) == 0
    assert cli.main(["run", *again]) == 0  # as the line says that goes on with it
    assert read_results(folder).training_seeds == (0, 1, 2)
    page = (folder / "report.html").read_text()
    capsys.readouterr()
    assert cli.main(["evolve", *again]) == cli.USAGE
    assert "was begun by automem run" in capsys.readouterr().err
    assert (folder / "report.html").read_text() == page
