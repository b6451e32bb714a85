"""A run from which something was forgotten can be trained on: forgotten turns are left out."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.played_traces import play_trace

from automem import cli
from automem.errors import UsageError
from automem.rollout import lease
from automem.rollout.chain import iter_events, read_events
from automem.rollout.journal import Journal
from automem.rollout.redactions import FORGOTTEN, forgotten_turns
from automem.trace.compact import compact_episode
from automem.trace.events import EpisodeStarted, Event
from automem_learners.build import build_dataset
from automem_learners.dataset import DataKind
from automem_learners.select.controls import AllSelector, RandomSelector
from automem_learners.select.run import select
from automem_learners.select.selection import read_selection
from automem_learners.select.thinning import Thinning

FACT = "saw tick 1"


@pytest.fixture(scope="module")
def events(base: str, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return play_trace(tmp_path_factory.mktemp("memory"), base)


def written(run: Path, events: list[Event]) -> Path:
    """A run's folder with this episode, finished; the episode's folder."""
    started = events[0]
    assert isinstance(started, EpisodeStarted)
    folder = run / "episodes" / started.episode
    folder.mkdir(parents=True)
    journal = Journal(folder, lease.acquire(folder))
    for event in events:
        journal.append(event)
    summary = compact_episode(iter_events(folder), run / "tables", started.episode)
    (folder / "episode.json").write_text(json.dumps({"episode": summary.episode}))
    return folder


def taken(folder: Path) -> set[tuple[str, int, int]]:
    return {(Path(t.run).name, t.step, t.turn) for t in read_selection(folder).turns}


def forgotten_in(episode: Path, turns: set[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Those of the turns that can be trained on no more."""
    first = forgotten_turns(episode)
    return {place for place in turns if place[1] in first and place[2] >= first[place[1]]}


def test_masked_turns_and_those_that_continue_them_are_left_out_wherever_they_were_selected(
    base: str, events: list[Event], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    episode = written(run, events)
    select([run], AllSelector(), Thinning(), run / "selections" / "all")
    shutil.copytree(run / "selections" / "all", tmp_path / "outside")
    before = taken(tmp_path / "outside")
    assert cli.main(["forget", str(run), FACT]) == 0

    after = taken(run / "selections" / "all")
    lost = before - after
    assert after
    assert lost == forgotten_in(episode, before) != set()
    for name, step, turn in lost:  # what continues a lost turn is lost
        assert {place for place in before if place[:2] == (name, step) and place[2] > turn} <= lost
    rows = pq.read_table(run / "selections" / "all" / "turns.parquet").to_pylist()
    assert {row["reason"] for row in rows if not row["is_selected"]} == {FORGOTTEN}

    sizes = []
    for selection in (run / "selections" / "all", tmp_path / "outside"):
        made = build_dataset(read_selection(selection), tmp_path / selection.name, base_model=base)
        sizes.append({(row.step, row.turn) for row in made.conversations})
    assert sizes[0] == sizes[1]
    assert sizes[0] <= {place[1:] for place in after}


def test_a_new_selection_counts_forgotten_turns_as_rejected_and_can_be_built(
    base: str, events: list[Event], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    written(run, events)
    cli.main(["forget", str(run), FACT])
    report = select([run], AllSelector(), Thinning(), tmp_path / "all")
    rejected = [kind["rejected"].get(FORGOTTEN, 0) for kind in report["kinds"].values()]
    assert sum(rejected) == report["turns"] - report["selected"] > 0
    assert build_dataset(read_selection(tmp_path / "all"), tmp_path / "d", base_model=base)
    count = report["selected"]
    report = select([run], RandomSelector(count=count), Thinning(), tmp_path / "random")
    assert report["selected"] == count


def test_published_data_leave_out_routines_of_which_a_turn_is_forgotten(
    base: str, events: list[Event], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    episode = written(run, events)
    select([run], AllSelector(), Thinning(), tmp_path / "all")
    cli.main(["forget", str(run), FACT])
    made = build_dataset(
        read_selection(tmp_path / "all"), tmp_path / "d", base_model=base, kind=DataKind.PUBLISHED
    )
    assert not [row for row in made.conversations if "___" in str(row.messages)]
    first = forgotten_turns(episode)
    assert all(row.turn < first.get(row.step, 99) for row in made.conversations)


def test_a_trace_without_token_ids_is_told_as_before(base: str, tmp_path: Path) -> None:
    from support.agent_harness import SpyEngine
    from support.played_traces import diligent

    run = tmp_path / "run"
    written(run, play_trace(tmp_path / "m", base, engine=SpyEngine(diligent)))
    select([run], AllSelector(), Thinning(), tmp_path / "all")
    with pytest.raises(UsageError, match="holds no token ids"):
        build_dataset(read_selection(tmp_path / "all"), tmp_path / "d", base_model=base)


def test_a_run_with_an_episode_of_the_same_name_keeps_its_tokens_and_its_selected_turns(
    base: str, events: list[Event], tmp_path: Path
) -> None:
    runs = [tmp_path / "all" / name for name in ("a", "b")]
    other = play_trace(tmp_path / "m", base, lambda view, request: "<|ACTION|>go<|END|>")
    written(runs[0], events)
    episode = written(runs[1], other)
    select(runs, AllSelector(), Thinning(), tmp_path / "all" / "selection")
    before = taken(tmp_path / "all" / "selection")
    table = runs[1] / "tables" / "turns" / f"{episode.name}.parquet"
    tokens = pq.read_table(table)["token_ids"].to_pylist()
    assert cli.main(["forget", str(tmp_path / "all"), "saw tick"]) == 0
    assert pq.read_table(table)["token_ids"].to_pylist() == tokens
    lost = before - taken(tmp_path / "all" / "selection")
    assert {name for name, _, _ in lost} == {"a"}
    first = forgotten_turns(runs[0] / "episodes" / episode.name)
    assert any(place[0] == "b" and place[2] >= first.get(place[1], 99) for place in before)


def test_a_selection_that_was_moved_with_its_run_is_unselected(
    base: str, events: list[Event], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    written(run, events)
    select([run], AllSelector(), Thinning(), run / "selections" / "all")
    moved = Path(shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "run"))
    before = taken(moved / "selections" / "all")
    assert cli.main(["forget", str(moved), FACT]) == 0
    assert taken(moved / "selections" / "all") < before
    assert read_events(next((moved / "episodes").iterdir()))
