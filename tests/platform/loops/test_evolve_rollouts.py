"""The structure loop over real rollouts: deaths, scaffolds that break in play, outages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.evolve_parts import (
    AGAIN,
    FIRST,
    SECOND,
    START,
    Killed,
    ListReviewer,
    make_evolution,
    node_in,
    reason,
    showing,
    timeless,
)
from support.loop_parts import small_template

from automem.loops.evolve import Evolution
from automem.loops.evolve_stage import Arena
from automem.loops.proficiency import Unfinished
from automem.loops.seedbook import SeedBook
from automem.rollout.run_dir import read_run
from automem.seeds import SeedRange


def real_loop(folder: Path, answers: dict[str, Any], outage: Path | None = None) -> Evolution:
    """Real rollouts of small decks by a scripted player that is sloppy."""
    return make_evolution(folder, answers, template=small_template(outage))


def test_real_rollouts_killed_again_and_again_play_no_finished_episode_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, killed, answers = tmp_path / "calm", tmp_path / "killed", {FIRST: 5, SECOND: 10, AGAIN: 8}
    real_loop(calm, answers).run()
    died: set[str] = set()
    play = Arena.play

    def mortal(self: Arena, entrants: Sequence[Any], *rest: Any) -> Any:
        place = str(entrants[-1].folder)
        for when in ("before", "after"):
            if f"{when} {place}" in died:
                continue
            died.add(f"{when} {place}")
            if when == "after":
                play(self, entrants, *rest)
            raise Killed
        return play(self, entrants, *rest)

    monkeypatch.setattr(Arena, "play", mortal)
    lives = 0
    while True:
        lives += 1
        try:
            real_loop(killed, answers).run()
            break
        except Killed:
            continue
    assert lives > 6
    assert timeless(killed) == timeless(calm)
    journals = sorted(path.relative_to(killed) for path in killed.rglob("journal/*.jsonl"))
    assert journals == sorted(path.relative_to(calm) for path in calm.rglob("journal/*.jsonl"))
    assert {path.name for path in journals} == {"0001.jsonl"}


def test_entrants_differ_in_their_scaffold_alone(tmp_path: Path) -> None:
    real_loop(tmp_path, {FIRST: 5, SECOND: 10}).run()
    place = tmp_path / "revision-1" / "wave-1" / "race" / "1-4"
    specs = [read_run(place / name).spec for name in ("champion", "n1", "n2")]
    assert len({spec.scaffold for spec in specs}) == 3
    assert len({repr([(f, getattr(s, f)) for f in s.__struct_fields__ if f != "scaffold"])
                for s in specs}) == 1  # fmt: skip
    shown = [(place / name / "scaffold" / "scaffold.yaml").read_text() for name in ("n1", "n2")]
    assert ["show_last: 5" in shown[0], "show_last: 10" in shown[1]] == [True, True]


def test_a_scaffold_that_breaks_in_play_is_stopped_after_its_first_episodes(
    tmp_path: Path,
) -> None:
    # Passes every check, whose index has one file, and breaks in a game, which has two.
    late = "\n{% if index | length == 2 %}{{ index[7].name }}{% endif %}"
    broken = {**showing(5), "plan.j2": START["plan.j2"] + late}
    reviewer = ListReviewer({FIRST: broken, SECOND: 10, AGAIN: 8})
    loop = make_evolution(tmp_path, reviewer=reviewer, template=small_template())
    loop.run()
    assert node_in(loop, FIRST).grown.error == ""
    assert "crashed in its first episodes: scaffold: " in reason(loop, FIRST)
    assert "plan.j2 line" in reason(loop, FIRST)
    assert node_in(loop, FIRST).measured == ()


def test_an_outage_in_the_middle_of_a_race_is_no_defeat(tmp_path: Path) -> None:
    outage = tmp_path / "outage"
    outage.write_text("concentration-1")  # every select seed; train seeds begin otherwise
    answers = {FIRST: 5, SECOND: 10, AGAIN: 8}
    loop = real_loop(tmp_path / "run", answers, outage)
    seed = SeedBook(tmp_path / "other").take(SeedRange.SELECT, 1, "x")[0]
    outage.write_text(f"concentration-{seed}-")
    with pytest.raises(Unfinished, match="the server is away"):
        loop.run()
    assert all(node.judged is None for node in loop.lineage.nodes())
    outage.unlink()
    real_loop(tmp_path / "run", answers, outage).run()
    assert all(node.judged for node in loop.lineage.nodes()[1:])
