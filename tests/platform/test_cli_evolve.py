"""`automem evolve`, `lineage`, `finalize`: mistakes told early, a real loop, a counted look."""

import json
import shutil
from pathlib import Path

import pytest
from support.evolve_parts import ListReviewer, showing
from support.skilled_engine import TARGET

from automem import cli
from automem.agent.isolation import find_isolation
from automem.commands.evolve import Parts
from automem.config import compose
from automem.loops.evolve_final import LOOKS
from automem.loops.gate import Verdict
from automem.loops.lineage import LINEAGE, Lineage
from automem.rollout.run_dir import read_run
from automem.seeds import SeedRange, range_of

SMALL = [
    "env=concentration", "env.world.cards=4", "env.world.max_steps=5", "rollout.workers=0",
    "revisions=1", "attempts=2", "at_once=2", "study.episodes=2", "smoke.episodes=1",
    "gate.confirmations=2", "gate.pairs=4", "gate.race=[2]", "gate.alpha=0.9", "gate.flips=999",
    "gate.minimum_gain=0.0", "finalize.games=2",
]  # fmt: skip


class Reviewer(ListReviewer):
    """Shows twenty lines, then two; a continuation shows five."""

    def __init__(self) -> None:
        super().__init__(
            {"revision 1, attempt 1": 20, "revision 1, attempt 2": 2,
             "revision 1, continuation 1": 5}
        )  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """Words of a small loop: real games by a scripted player, revisions from a list."""
    for group, text in {
        "engine/skilled": "name: skilled\nplacement: worker\nmodel: base\noutage: ''\n"
        f"sampling: {{}}\ntarget:\n  _target_: {TARGET}\n"
        "  model: ${engine.model}\n  outage: ${engine.outage}\n",
        "reviewer/listed": f"_target_: {__name__}.Reviewer\n",
    }.items():
        path = tmp_path / "conf" / f"{group}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return [*SMALL, "engine=skilled", "reviewer=listed", "--config-dir", str(tmp_path / "conf")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["revision=3"], "unknown key 'revision'; did you mean 'revisions'"),
        (["experiment=embeded"], "did you mean 'embedded'"),
        (["reviewer=heuristics"], "did you mean 'heuristic'"),
        (["gate.alpha=2"], "gate: the gate needs"),
        (["gate.pairs=2"], "with 2 pairs no result can reach"),
        (["gate.race=[]"], "set gate.race"),
        (["at_once=4"], "at_once must be from 1 to attempts (3), got 4"),
        (["revisions=0"], "revisions must be at least 1"),
        (["study.episodes=0"], "study must be at least 1"),
        (["+smoke.step=3"], "no field of smoke 'step'; did you mean 'steps'"),
        (["smoke.episodes=-1"], "smoke: episodes and steps must be 0 or more"),
        (["finalize.games=1"], "finalize.games must be at least 2"),
        (["specialist=shipped"], "evolve first, then train"),
        (["env.world.cards=7"], "`cards` must be even"),
        (["scaffold=nowhere"], "scaffold"),
        (["allow_hooks=true", "agent.hooks=off"], "with agent.hooks=off none would ever run"),
    ],
)
def test_a_mistake_is_told_before_anything_is_played(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evolve", *words]) == cli.USAGE
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert list(Path().glob("runs/*")) == []


def test_hooks_are_allowed_only_where_they_can_be_isolated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    find_isolation.cache_clear()
    try:
        words = ["experiment=embedded", "allow_hooks=true"]
        assert cli.main(["evolve", *words]) == cli.USAGE
        assert "runs isolated only: bubblewrap is not installed" in capsys.readouterr().err
        assert list(Path().glob("runs/*")) == []
        Parts(compose("evolve", [*words, "agent.hooks=unprotected"], None))
    finally:
        find_isolation.cache_clear()


def test_show_prints_the_configuration_and_plays_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evolve", "experiment=embedded", "--show"]) == 0
    printed = capsys.readouterr().out
    assert "confirmations: 3" in printed
    assert "automem.loops.reviewers.heuristic.Heuristic" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_loop_is_played_told_and_looked_at_and_goes_on_for_nothing(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evolve", *small, "run.dir=runs/whole"]) == 0
    printed = capsys.readouterr().out
    assert "Written: runs/whole/results.json" in printed
    whole = tmp_path / "runs" / "whole"
    results = json.loads((whole / "results.json").read_text())
    assert [node["slot"] for node in results["nodes"]][:3] == [
        "start", "revision 1, attempt 1", "revision 1, attempt 2",
    ]  # fmt: skip
    page = (whole / "report.html").read_text()
    assert "How the scaffold came about" in page
    assert "purpose: card rank, show_last: 20" in page
    played = {path: path.stat().st_mtime_ns for path in whole.rglob("journal/*.jsonl")}
    before = (whole / LINEAGE).read_bytes()
    again = ["run.dir=runs/whole", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(["evolve", *again]) == 0
    assert (whole / LINEAGE).read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("journal/*.jsonl")} == played

    capsys.readouterr()
    assert cli.main(["lineage", "runs/whole"]) == 0
    told = capsys.readouterr().out
    assert "n0 embedded@" in told
    assert "├─ n1" in told
    assert "+  - {name: cards.txt, purpose: card rank, show_last: 20}" in told
    assert "try revision 1, attempt 1" in told
    assert "race 2" in told
    assert cli.main(["lineage", "runs/whole", "n2"]) == 0
    told = capsys.readouterr().out
    assert "show_last: 2}" in told
    assert "show_last: 20" not in told
    assert cli.main(["lineage", "runs/whole", "n9"]) == cli.USAGE
    assert "has no node 'n9'; there are: n0 to n" in capsys.readouterr().err


def test_another_plan_for_a_loop_that_has_begun_is_refused(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evolve", *small, "run.dir=one"]) == 0
    assert cli.main(["evolve", *small, "revisions=2", "run.dir=one"]) == cli.USAGE
    assert "(revisions: 1 then, 2 now)" in capsys.readouterr().err
    for word in ("smoke.episodes=0", "study.episodes=3"):
        assert cli.main(["evolve", *small, word, "run.dir=one"]) == cli.USAGE
        assert f"({word.partition('=')[0]}: " in capsys.readouterr().err


def test_an_outage_leaves_a_loop_that_the_printed_command_goes_on_with(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = tmp_path / "outage"
    outage.write_text("concentration")
    words = [*small, f"engine.outage={outage}", "rollout.deadlines.patience_s=0.1"]
    assert cli.main(["evolve", *words, "run.dir=out"]) == cli.PENDING
    assert "Go on with: automem evolve run.dir=out" in capsys.readouterr().err
    outage.unlink()
    assert cli.main(["evolve", "run.dir=out", "--config-dir", str(tmp_path / "conf")]) == 0


@pytest.mark.parametrize("command", ["lineage", "finalize"])
def test_a_folder_without_a_lineage_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "nowhere"]) == cli.USAGE
    assert "'nowhere' is no run of automem evolve: there is no such" in capsys.readouterr().err
    assert cli.main([command, str(tmp_path)]) == cli.USAGE
    assert f"has no {LINEAGE}" in capsys.readouterr().err


def crown(folder: Path, lines: int) -> None:
    """Accept a node by hand, whatever the games said: what finalize does is the test."""
    tree = Lineage(folder)
    slot = f"{lines} by hand"
    node = tree.grow(slot, tree.champion().id, showing(lines), reasons="x", reviewer="y")
    tree.judge(node.id, Verdict.ACCEPTED, "by hand")


def test_the_final_seeds_are_read_once_and_the_look_is_counted(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "one"
    assert cli.main(["evolve", *small, "run.dir=runs/one"]) == 0
    crown(folder, 7)
    capsys.readouterr()
    words = ["finalize", "runs/one", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "over 2 final seeds" in told
    assert "look 1 of 1 at these seeds" in told
    lines = [json.loads(line) for line in (tmp_path / "runs" / LOOKS).read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 1]
    assert [line["difference"] is None for line in lines] == [True, False]
    [place] = (folder / "final").iterdir()
    for name in ("start", "champion"):
        seeds = [key.seed for key in read_run(place / name).spec.episodes]
        assert {range_of(seed) for seed in seeds} == {SeedRange.FINAL}
    assert cli.main(words) == 0  # told again, not played again
    assert capsys.readouterr().out == told
    assert len((tmp_path / "runs" / LOOKS).read_text().splitlines()) == 2
    crown(folder, 9)
    assert cli.main(words) == 0
    assert "look 2 of 2 at these seeds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (["env=crafter", "engine=skilled"], "world: concentration, not crafter"),
        (["env.world.cards=6"], "(world;"),
        (
            ["engine.target.model=good", "agent.hooks=off", "run.seed=9"],
            "(engines, agent, run_seed;",
        ),
        (["rollout.max_steps=3"], "(max_steps;"),
    ],
)
def test_final_seeds_are_not_played_under_settings_that_the_loop_never_had(
    other: list[str],
    differs: str,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["evolve", *small, "run.dir=runs/one"]) == 0
    crown(tmp_path / "runs" / "one", 7)
    config = ["--config-dir", str(tmp_path / "conf")]
    assert cli.main(["finalize", "runs/one", *other, *config]) == cli.USAGE
    assert differs in capsys.readouterr().err
    assert not (tmp_path / "runs" / LOOKS).exists()
    assert not (tmp_path / "runs" / "one" / "final").exists()


def test_a_final_look_that_an_outage_broke_off_goes_on_as_the_same_look(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = tmp_path / "outage"
    words = [*small, f"engine.outage={outage}", "rollout.deadlines.patience_s=0.1"]
    assert cli.main(["evolve", *words, "run.dir=runs/one"]) == 0
    crown(tmp_path / "runs" / "one", 7)
    outage.write_text("concentration-6")
    final = ["finalize", "runs/one", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(final) == cli.PENDING
    assert "it stays the same look" in capsys.readouterr().err
    outage.unlink()
    assert cli.main(final) == 0
    assert "look 1 of 1" in capsys.readouterr().out


def test_nothing_is_read_where_nothing_was_accepted(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*small, "gate.minimum_gain=0.99"]
    assert cli.main(["evolve", *words, "run.dir=runs/one"]) == 0
    said = capsys.readouterr().out
    assert "nothing was accepted" in said
    assert "would have been accepted with 80 % chance" in said
    final = ["finalize", "runs/one", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(final) == cli.USAGE
    assert "the champion is the starting scaffold" in capsys.readouterr().err
    assert not (tmp_path / "runs" / LOOKS).exists()
