"""From a selection of turns in a run's folder to a dataset."""

from pathlib import Path

import pytest
from support.played_traces import play_trace

from automem.errors import UsageError
from automem.rollout import lease
from automem.rollout.journal import Journal
from automem.trace.events import EpisodeStarted, Role, Turn
from automem_learners.build import build_dataset
from automem_learners.dataset import DataKind, load_dataset
from automem_learners.select.selection import SelectedTurn, Selection
from automem_learners.select.verdict import Kind


@pytest.fixture
def selection(base: str, tmp_path: Path) -> Selection:
    """All turns of the memory role of one episode on disk; LOG weighs three times as much."""
    events = play_trace(tmp_path / "memory", base)
    started = events[0]
    assert isinstance(started, EpisodeStarted)
    folder = tmp_path / "run" / "episodes" / started.episode
    folder.mkdir(parents=True)
    journal = Journal(folder, lease.acquire(folder))
    for event in events:
        journal.append(event)
    turns = [
        SelectedTurn(
            run=str(tmp_path / "run"), episode=started.episode, step=e.step, turn=e.turn,
            kind=Kind.WRITE, why="a test", weight=1.5 if e.routine == "log" else 0.5,
            seed=started.seed, tokens=1,
        )
        for e in events
        if isinstance(e, Turn) and e.role is Role.MEMORY
    ]  # fmt: skip
    return Selection("all", tuple(turns), tmp_path / "selection")


def test_selected_turns_become_exact_data_that_count_as_selected(
    base: str, selection: Selection, tmp_path: Path
) -> None:
    made = build_dataset(selection, tmp_path / "data", base_model=base)
    read = load_dataset(tmp_path / "data")
    assert read.card == made.card
    assert read.card.conversations == len(selection.turns)
    assert read.card.made_by == "selector all"
    shares = {row.kind: row.share for row in read.conversations}
    assert shares == {"log": 1.5, "plan": 0.5, "handover": 0.5}


def test_published_data_hold_whole_routines(
    base: str, selection: Selection, tmp_path: Path
) -> None:
    made = build_dataset(selection, tmp_path / "data", base_model=base, kind=DataKind.PUBLISHED)
    assert made.card.kind is DataKind.PUBLISHED
    assert 0 < made.card.conversations < len(selection.turns)
    assert {row.share for row in made.conversations} == {1.0}


def test_a_run_that_is_gone_is_told(base: str, selection: Selection, tmp_path: Path) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="from a run that has moved or was removed"):
        build_dataset(selection, tmp_path / "data", base_model=base)
