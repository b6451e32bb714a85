"""Several scaffolds at once: side by side on a real Ray, one engine for all."""

from pathlib import Path

import msgspec
import pytest
from support.evolve_parts import START, showing
from support.loop_parts import small_template

from automem.agent.scaffold_files import write_files
from automem.loops.evolve_stage import Arena, Entrant
from automem.rollout.engines import SharedEngines
from automem.rollout.ray_local import connected
from automem.rollout.spec import Deadlines
from automem.seeds import SeedRange, seeds_from

SEEDS = seeds_from(SeedRange.SELECT, 2)


def entrants(tmp_path: Path) -> list[Entrant]:
    found = []
    for name, files in {"start": START, "ten": showing(10), "three": showing(3)}.items():
        write_files(files, tmp_path / "scaffolds" / name)
        found.append(Entrant(name, tmp_path / "scaffolds" / name, tmp_path / "runs" / name))
    return found


@pytest.mark.slow
def test_candidates_play_side_by_side_on_one_shared_engine(tmp_path: Path) -> None:
    template = small_template()
    engine = msgspec.structs.replace(template.engines["base"], placement="actor")
    template = msgspec.structs.replace(
        template, engines={"base": engine}, workers=1, deadlines=Deadlines()
    )
    with connected(), SharedEngines() as engines:
        arena = Arena(template, engines, is_shown=False)
        played = arena.play(entrants(tmp_path), SEEDS, "race")
        assert len(engines._actors) == 1
    assert [each.reason for each in played] == ["", "", ""]
    here = Arena(small_template(), None, is_shown=False)
    others = [Entrant(e.name, e.scaffold, tmp_path / "again" / e.name) for e in entrants(tmp_path)]
    expected = here.play(others, SEEDS, "race")
    assert [each.progressions for each in played] == [each.progressions for each in expected]
    assert [each.run_dir.name for each in played] == ["start", "ten", "three"]


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    arena = Arena(small_template(), None, is_shown=False)
    first = arena.play(entrants(tmp_path), SEEDS, "race")
    journals = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")}
    assert len(journals) == 6
    again = arena.play(entrants(tmp_path), SEEDS, "race")
    assert [each.progressions for each in again] == [each.progressions for each in first]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")} == journals


def test_a_cap_on_steps_holds_for_the_first_episodes_alone(tmp_path: Path) -> None:
    arena = Arena(small_template(), None, is_shown=False)
    [short, *_] = arena.play(entrants(tmp_path)[:1], SEEDS, "first episodes", max_steps=3)
    assert short.summary["steps"] == 3 * len(SEEDS)


def test_the_progress_of_all_is_one_display(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Arena(small_template(), None).play(entrants(tmp_path), SEEDS, "race")
    told = capsys.readouterr().err.strip().splitlines()
    assert told[0].startswith("race: ")
    assert "6/6 episodes" in told[-1]
