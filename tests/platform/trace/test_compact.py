import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from support.traces import failed_play, play

from automem.errors import StoreError
from automem.memory.ops import Search
from automem.trace import compact
from automem.trace.compact import compact_episode
from automem.trace.events import Committed, Observed, OpDone
from automem.trace.tables import TABLES, schema


def read(tables, table, episode="concentration-3-0"):
    return pq.ParquetFile(tables / table / f"{episode}.parquet").read().to_pylist()


@pytest.fixture(scope="module")
def events():
    return play(3)


@pytest.fixture(scope="module")
def tables(events, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    compact_episode(events, folder, "concentration-3-0")
    return folder


def test_every_table_has_the_documented_columns_with_their_meaning(tables):
    for table, columns in TABLES.items():
        found = pq.read_schema(tables / table / "concentration-3-0.parquet")
        assert found.names == [column.name for column in columns]
        assert found.equals(schema(table))
        assert all(field.metadata[b"meaning"] for field in found)


def test_a_step_row_tells_what_was_seen_done_and_what_it_led_to(events, tables):
    steps = read(tables, "steps")
    seen = [e for e in events if isinstance(e, Observed)]
    done = [e for e in events if isinstance(e, Committed)]
    assert [row["step"] for row in steps] == [e.step for e in seen]
    assert [row["action"] for row in steps] == [*(e.action for e in done), None]
    for row, answer in zip(steps, seen[1:], strict=False):
        assert row["reward"] == answer.outcome.reward
        assert row["unproductive"] == (answer.outcome.invalid_action or not answer.changed)
        assert row["gain"] == pytest.approx(answer.outcome.progression - row["progression"])
    assert steps[-1]["unproductive"] is None
    assert sum(row["gain"] for row in steps[:-1]) == pytest.approx(steps[-1]["progression"])


def test_time_splits_into_model_world_and_platform(tables):
    row = read(tables, "steps")[4]
    assert row["model_s"] == pytest.approx(0.02 * row["turns"])
    assert row["world_s"] == 0.001
    assert row["platform_s"] == pytest.approx(0.002, abs=1e-4)


def test_prompts_are_stored_by_name_and_their_texts_once(tables):
    blobs = {row["name"]: row["text"] for row in read(tables, "blobs")}
    prompts = [row["prompt"] for row in read(tables, "turns")]
    names = [message["text"] for prompt in prompts for message in prompt]
    assert any(name.startswith("b:") for name in names)
    assert all(name in blobs for name in names if name.startswith("b:"))
    assert len(blobs) == len(read(tables, "blobs"))
    assert [m["role"] for m in prompts[-1]] == ["system", "user"]


def test_ops_name_the_steps_that_wrote_the_lines_they_show(events, tables):
    rows = [row for row in read(tables, "ops") if row["op"] == "SEARCH" and row["sources"]]
    assert rows
    assert all(source["step"] <= row["step"] for row in rows for source in row["sources"])
    searches = [e for e in events if isinstance(e, OpDone) and isinstance(e.op, Search)]
    assert sum(e.result.text == "no match" for e in searches) == sum(
        row["status"] == "empty" for row in read(tables, "ops") if row["op"] == "SEARCH"
    )


def test_the_scaffolds_own_changes_are_rows_without_a_turn(tables):
    initial = [row for row in read(tables, "ops") if row["op"] == "CHANGE"]
    assert [(row["turn"], row["cause"]) for row in initial] == [(-1, "initial")] * 2


def test_compacting_twice_gives_the_same_rows(events, tables, tmp_path):
    compact_episode(events, tmp_path, "concentration-3-0")
    for table in TABLES:
        assert read(tables, table) == read(tmp_path, table)


def test_a_player_that_failed_at_the_start_is_a_row_with_progression_0(tmp_path):
    summary = compact_episode(failed_play(99), tmp_path, "concentration-99-0")
    assert (summary.failed, summary.progression, summary.steps) == (True, 0.0, 0)
    (row,) = read(tmp_path, "episodes", "concentration-99-0")
    assert row["stop"] == "player_failed"
    assert row["failures"][0]["boundary"] == "scaffold"
    assert row["unproductive_actions"] is None


def test_an_unfinished_episode_leaves_no_file(events, tmp_path):
    with pytest.raises(StoreError, match="has no end"):
        compact_episode(events[:-1], tmp_path, "concentration-3-0")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_long_episodes_leave_memory_in_chunks(events, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "CHUNK_ROWS", 10)
    compact_episode(iter(events), tmp_path, "concentration-3-0")
    file = pq.ParquetFile(tmp_path / "steps" / "concentration-3-0.parquet")
    assert file.num_row_groups > 3
    assert file.read().num_rows == sum(isinstance(e, Observed) for e in events)


def test_growth_per_step_does_not_depend_on_the_size_of_memory(tmp_path):
    def turns_and_ops_bytes(steps):
        events = play(5, cards=32, max_steps=steps, habits=None)
        cut = [e for e in events if getattr(e, "step", 0) <= steps]
        compact_episode(cut, tmp_path / str(steps), "e")
        folder = tmp_path / str(steps)
        return sum((folder / table / "e.parquet").stat().st_size for table in TABLES) / steps

    assert turns_and_ops_bytes(60) < turns_and_ops_bytes(20) * 1.1


def test_a_kill_at_the_crash_points_leaves_all_tables_or_a_clean_way_to_write_them(tmp_path):
    code = (
        "import sys; from pathlib import Path; from support.traces import play;"
        "from automem.trace.compact import compact_episode;"
        "compact_episode(play(3), Path(sys.argv[1]), 'concentration-3-0')"
    )
    for point, expected in (("compaction.before", 0), ("compaction.after", len(TABLES))):
        folder = tmp_path / point
        environment = {
            **os.environ, "AUTOMEM_CRASH": f"{point}:1", "PYTHONPATH": "tests",
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, folder], env=environment, check=False)
        assert done.returncode == -9
        assert len(list(folder.rglob("*.parquet"))) == expected
        compact_episode(play(3), folder, "concentration-3-0")
        assert read(folder, "episodes")[0]["episode"] == "concentration-3-0"
