"""Both loops in one table: the 2 x 2, the rivals, knowledge told apart, nothing done twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.loop_parts import small_template, specialist

from automem.agent.scaffold_files import SCHEMA, read_files
from automem.config import scaffold_path
from automem.errors import UsageError
from automem.loops.arm_results import report_runs
from automem.loops.gate import Rule, Verdict
from automem.loops.lineage import Declared, Lineage, Node
from automem.loops.proficiency import Unfinished
from automem.loops.recipes import Specialist
from automem.loops.run import KNOWING, UNKNOWING, BothLoops, PartOfBook, Plan
from automem.loops.run_results import RunResults, read_results, square_of
from automem.loops.run_table import notes, print_results, report_section
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played, Stage
from automem.rollout.run_dir import create_run

START_FILES = read_files(scaffold_path("embedded"))
SHOWN = {
    **START_FILES,
    SCHEMA: START_FILES[SCHEMA].replace("card rank}", "card rank, show_last: 10}"),
}
KNOWING_FILES = {
    **SHOWN,
    SCHEMA: SHOWN[SCHEMA].replace(
        "- {name: notes.txt}", "- {name: notes.txt, purpose: a matched pair is out of play}"
    ),
}
RIVALS = {"window": Arm(agent={"memory": "window"})}


class ScaffoldStage(Stage):
    """Games that are not played: the scaffold and the specialist decide, each deck adds its own."""

    plays: list[tuple[str, str]] = []  # noqa: RUF012 - a record over all stages of a test

    def __init__(self, scaffold: Path, pending: str = "") -> None:
        super().__init__(small_template(), None, is_shown=False)
        self._scaffold = scaffold
        self._pending = pending

    def play(
        self,
        folder: Path,
        arm: Arm,
        specialist: Specialist | None,
        seeds: Sequence[int],
        title: str,
        on_progress: Any = None,
    ) -> Played:
        text = (self._scaffold / SCHEMA).read_text()
        self.plays.append((folder.name, str(arm.agent.get("knowledge", ""))))
        reached = 0.2 + 0.1 * ("show_last" in text) + 0.05 * ("matched" in text)
        reached += 0.05 * bool(arm.agent.get("knowledge"))
        reached += (0.3 + 0.02 * specialist.steps) if specialist else 0.0
        folder.mkdir(parents=True, exist_ok=True)
        metrics = {"redundant_writes": {"mean": reached}}
        pending = int(self._pending in title) if self._pending else 0
        summary = {"pending": pending, "failed": 0, "metrics": metrics}
        return Played(folder, {seed: reached + seed % 5 / 100 for seed in seeds}, summary)


@pytest.fixture(autouse=True)
def nothing_played() -> None:
    ScaffoldStage.plays = []


def lineage_of(folder: Path, *accepted: dict[str, str]) -> Lineage:
    """A lineage whose champions are these, one after the other, beside one that was rejected."""
    lineage = Lineage(folder)
    lineage.declare(Declared(rule=Rule(), world="concentration", reviewer="list"))
    champion = lineage.plant(START_FILES)
    for number, files in enumerate(accepted):
        knowledge = ("a matched pair is out of play",) if "matched" in files[SCHEMA] else ()
        node = lineage.grow(
            f"revision {number}", champion.id, files, reasons="better", reviewer="list",
            knowledge=knowledge,
        )  # fmt: skip
        champion = lineage.judge(node.id, Verdict.ACCEPTED, "it is")
    broken = lineage.grow("bad", champion.id, {SCHEMA: "name: ["}, reasons="", reviewer="list")
    lineage.judge(broken.id, Verdict.ELIMINATED, "does not load")
    return lineage


class Trainings:
    """Trains by name; a gate that accepts for the seeds it is told."""

    def __init__(self, accepts: Sequence[int] = (0, 1, 2)) -> None:
        self.accepts = accepts
        self.asked: list[tuple[str, int]] = []

    def __call__(self, node: Node, scaffold: Path, seed: int, place: Path) -> Specialist | None:
        self.asked.append((node.id, seed))
        return specialist("good", f"s{seed}", steps=seed) if seed in self.accepts else None


def both(
    folder: Path,
    *accepted: dict[str, str],
    trainings: Trainings | None = None,
    pending: str = "",
    **plan: Any,
) -> RunResults:
    fields: dict[str, Any] = {"training_seeds": (0, 1, 2), "games": 4, "rivals": RIVALS, **plan}
    loops = BothLoops(
        Plan(**fields),
        folder,
        lambda: lineage_of(folder, *accepted),
        trainings or Trainings(),
        lambda scaffold: ScaffoldStage(scaffold, pending),
        lambda line: None,
    )
    return loops.run("the base")


def test_every_version_its_training_and_the_rivals_are_in_one_table(tmp_path: Path) -> None:
    results = both(tmp_path, SHOWN, KNOWING_FILES)
    decks = 0.015  # what the decks add on the average
    assert {arm.name: round(arm.mean - decks, 3) for arm in results.arms} == {
        "v0": 0.2,
        "evolved, n1": 0.3,
        "evolved": 0.35,
        "v0 + trained": 0.52,
        "evolved + trained": 0.67,
        "window": 0.2,
        KNOWING: 0.25,
        UNKNOWING: 0.3,
    }
    assert results.nodes == {"v0": "n0", "evolved, n1": "n1", "evolved": "n2"}
    assert read_results(tmp_path) == results


def test_the_square_tells_structure_from_training_over_training_seeds(tmp_path: Path) -> None:
    results = both(tmp_path, SHOWN)
    square = results.square
    assert square is not None
    found = {effect.name: effect for effect in square.effects}
    assert found["structure"].mean == pytest.approx(0.1)
    assert found["training on v0"].values == pytest.approx([0.3, 0.32, 0.34])
    assert found["both"].mean == pytest.approx(0.42)
    assert found["more than the sum"].mean == pytest.approx(0.0)
    low, high = found["training on v0"].interval or (0.0, 0.0)
    # by table no deck differs from another, so all of it is over training seeds: Student's
    assert low == pytest.approx(0.32 - 4.303 * 0.02 / 3**0.5, abs=1e-3)
    assert high > 0.36
    assert results.arms[2].difference_interval == found["training on v0"].interval


def test_where_nothing_was_accepted_the_start_alone_is_trained_on(tmp_path: Path) -> None:
    trainings = Trainings()
    results = both(tmp_path, trainings=trainings)
    assert [arm.name for arm in results.arms] == ["v0", "v0 + trained", "window"]
    assert results.square is None
    assert trainings.asked == [("n0", 0), ("n0", 1), ("n0", 2)]
    assert "accepted nothing" in " ".join(notes(results))


def test_a_training_that_the_gate_did_not_accept_counts_as_the_base(tmp_path: Path) -> None:
    results = both(tmp_path, SHOWN, trainings=Trainings(accepts=[1]))
    arms = {arm.name: arm for arm in results.arms}
    points = [e.mean for e in arms["v0 + trained"].by_training_seed.values()]
    assert points == pytest.approx([0.215, 0.535, 0.215])
    assert arms["v0 + trained"].fell_back == (0, 2)
    assert results.square is not None
    assert [effect.fell_back for effect in results.square.effects] == [(), *[(0, 2)] * 5]
    assert "v0 + trained: training seeds 0, 2; evolved + trained" in " ".join(notes(results))
    shown = console_text(results)
    assert "0.215* 0.535 0.215*" in shown
    assert "+0.000* +0.320 +0.000*" in shown
    assert "0.215* 0.535 0.215*" in str(report_section(results))
    runs = dict(report_runs(results.arms, tmp_path))
    assert runs["v0 + trained, training seed 1"].name == "v0-trained-1-s1"
    assert not any(name == "v0 + trained" for name in runs)


def test_where_every_gate_rejected_no_interval_is_told(tmp_path: Path) -> None:
    results = both(tmp_path, SHOWN, trainings=Trainings(accepts=[]))
    arms = {arm.name: arm for arm in results.arms}
    assert arms["v0 + trained"].interval is None
    assert arms["v0 + trained"].difference_interval is None
    assert results.square is not None
    assert {effect.interval for effect in results.square.effects[1:]} == {None}
    assert "v0 + trained" not in " ".join(dict(report_runs(results.arms, tmp_path)))


def test_rejected_trainings_are_found_again_by_a_later_call(tmp_path: Path) -> None:
    first = both(tmp_path, SHOWN, trainings=Trainings(accepts=[1]), training_seeds=(0, 1))
    again = both(tmp_path, SHOWN, trainings=Trainings(accepts=[1]))
    assert [arm.fell_back for arm in first.arms if arm.fell_back] == [(0,), (0,)]
    assert [arm.fell_back for arm in again.arms if arm.fell_back] == [(0, 2), (0, 2)]


def console_text(results: RunResults) -> str:
    console = Console(width=200)
    with console.capture() as printed:
        print_results(results, console)
    return printed.get()


def test_knowledge_is_given_to_the_start_as_the_text_that_was_added(tmp_path: Path) -> None:
    results = both(tmp_path, KNOWING_FILES)
    given = {text for name, text in ScaffoldStage.plays if text}
    assert given == {"a matched pair is out of play"}
    assert [each.kind for each in results.knowledge["n1"]] == ["declared"]


def test_knowledge_that_every_arm_has_is_not_taken_from_the_one_that_gets_more(
    tmp_path: Path,
) -> None:
    both(tmp_path, KNOWING_FILES, knowledge="cards have two sides")
    given = {text for name, text in ScaffoldStage.plays if text}
    assert given == {"cards have two sides\na matched pair is out of play"}


def test_knowledge_that_a_later_version_took_out_again_is_given_to_nobody(tmp_path: Path) -> None:
    results = both(tmp_path, KNOWING_FILES, SHOWN)
    assert results.knowledge["n1"]
    assert {KNOWING, UNKNOWING}.isdisjoint(arm.name for arm in results.arms)


def test_another_word_for_knowledge_is_played_elsewhere(tmp_path: Path) -> None:
    there = tmp_path / "arms" / "v0-the-same-knowledge"
    create_run(there, msgspec.structs.replace(small_template(), agent={"knowledge": "otherwise"}))
    parted = tmp_path / "scaffolds-without-knowledge" / "n1"
    parted.mkdir(parents=True)
    (parted / "scaffold.yaml").write_text("name: otherwise\n")
    both(tmp_path, KNOWING_FILES)
    played = [name for name, _ in ScaffoldStage.plays]
    assert any(name.startswith("v0-the-same-knowledge-") for name in played)
    assert any(name.startswith("evolved-without-its-knowledge-") for name in played)
    assert not {"v0-the-same-knowledge", "evolved-without-its-knowledge"} & set(played)


def test_without_knowledge_added_no_arm_is_played_for_it(tmp_path: Path) -> None:
    results = both(tmp_path, SHOWN)
    assert {KNOWING, UNKNOWING}.isdisjoint(arm.name for arm in results.arms)
    assert results.knowledge == {}


def test_a_pending_game_leaves_the_table_unwritten(tmp_path: Path) -> None:
    with pytest.raises(Unfinished, match="run the same command again"):
        both(tmp_path, SHOWN, pending="window")
    with pytest.raises(UsageError, match="is not finished there"):
        read_results(tmp_path)
    assert both(tmp_path, SHOWN).arms


def test_without_training_seeds_nothing_is_trained(tmp_path: Path) -> None:
    trainings = Trainings()
    results = both(tmp_path, SHOWN, trainings=trainings, training_seeds=())
    assert trainings.asked == []
    assert [arm.name for arm in results.arms] == ["v0", "evolved", "window"]
    assert "Nothing was trained" in notes(results)[0]


def test_parts_of_one_seed_book_never_share_a_seed(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    taken = SeedBook(path).take("confirm", 3, "n1: confirmation")
    ours = PartOfBook(path, "training on n0").take("confirm", 3, "training seed 0, round 1")
    theirs = PartOfBook(path, "training on n1").take("confirm", 3, "training seed 0, round 1")
    assert len({*taken, *ours, *theirs}) == 9
    again = PartOfBook(path, "training on n0").take("confirm", 3, "training seed 0, round 1")
    assert again == ours


def test_arms_that_would_share_a_folder_are_refused() -> None:
    for name in ("evolved", "V0 + trained", "?", "evolved, n3", "v0 trained 0 good"):
        with pytest.raises(UsageError, match="would share a folder"):
            Plan(training_seeds=(0,), games=4, rivals={name: Arm()})
    with pytest.raises(UsageError, match="names a seed twice"):
        Plan(training_seeds=(0, 0), games=4)
    with pytest.raises(UsageError, match="training_seeds must be 0 or more, got -1"):
        Plan(training_seeds=(-1,), games=4)
    for games in (1, 20_000_000):
        with pytest.raises(UsageError, match="games must be at least 2 and at most 10,000,000"):
            Plan(training_seeds=(0,), games=games)


def test_the_table_and_the_section_tell_every_arm_and_effect(tmp_path: Path) -> None:
    rivals = {"a <b>rival</b>": Arm(agent={"memory": "full"})}
    results = both(tmp_path, KNOWING_FILES, rivals=rivals)
    console = Console(width=160, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as printed:
        print_results(results, console)
    section = str(report_section(results))
    for effect in ("structure", "training on the evolved", "more than the sum"):
        assert effect in printed.get()
        assert effect in section
        assert f"{effect}</th>" in section
    assert section.count("+0.300 +0.320 +0.340") == 2  # training on v0, and on the evolved
    trained = next(arm for arm in results.arms if arm.name == "v0 + trained")
    low, high = trained.difference_interval or (0.0, 0.0)
    assert f"{low:+.3f} to {high:+.3f}" in section
    assert "a matched pair is out of play" in section
    assert "minus v0" in printed.get()
    assert "a matched pair is out of play" in printed.get()
    assert "a &lt;b&gt;rival&lt;/b&gt;" in section
    assert section.count("<svg") == len(results.arms)


def test_a_square_needs_all_its_corners() -> None:
    assert square_of({}, ("a", "b", "c", "d")) is None
