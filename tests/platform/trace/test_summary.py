import json

import msgspec
import pytest
from support.traces import failed_play, play, write_run

from automem.commands.table import print_tasks
from automem.errors import StoreError
from automem.report import write_report
from automem.trace.events import Observed
from automem.trace.statistics import estimate
from automem.trace.summary import (
    estimate_of,
    estimate_over,
    progression_of,
    summarise,
    write_summary,
)


def test_a_summary_has_the_documented_fields_and_is_what_the_file_says(tmp_path):
    run = write_run(tmp_path / "run", [play(1), play(2), play(3)], wall_s=10.0)
    summary = write_summary(run, {"platform_ms_per_step": 1.5})
    assert json.loads((run / "summary.json").read_text()) == summary
    assert set(summary["progression"]) == {"mean", "se", "ci95", "n"}
    assert (summary["episodes"], summary["finished"], summary["failed"]) == (3, 3, 0)
    assert summary["complete"] is True
    assert summary["steps_per_s"] == pytest.approx(summary["steps"] / 10.0)
    assert summary["platform_ms_per_step"] == 1.5
    assert set(summary["tokens"]) == {"in", "out", "cached"}
    assert [seed["seed"] for seed in summary["seeds"]] == [1, 2, 3]
    assert summary["metrics"]["empty_searches"]["mean"] is not None


def test_failed_episodes_never_leave_the_mean(tmp_path):
    alone = summarise(write_run(tmp_path / "a", [play(1), play(2)]))
    both = summarise(write_run(tmp_path / "b", [play(1), play(2), failed_play(9)]))
    assert both["failed"] == 1
    assert both["progression"]["mean"] == pytest.approx(alone["progression"]["mean"] * 2 / 3)


def test_pending_episodes_are_counted_apart_and_make_the_summary_incomplete(tmp_path):
    run = write_run(tmp_path / "run", [play(1)], pending=("concentration-9-0",))
    summary = summarise(run)
    assert (summary["complete"], summary["pending"], summary["finished"]) == (False, 1, 1)
    assert summary["pending_episodes"] == ["concentration-9-0"]


def test_planned_episodes_that_never_began_are_pending(tmp_path):
    planned = [{"episode": f"concentration-{seed}-0", "seed": seed} for seed in (1, 5)]
    run = write_run(tmp_path / "run", [play(1)], episodes=planned)
    assert summarise(run)["pending_episodes"] == ["concentration-5-0"]


def test_tables_without_the_done_mark_are_not_yet_finished(tmp_path):
    run = write_run(tmp_path / "run", [play(1), play(2)])
    (run / "episodes" / "concentration-2-0" / "episode.json").unlink()
    assert summarise(run)["pending_episodes"] == ["concentration-2-0"]


def test_a_run_with_nothing_finished_has_a_summary_without_numbers(tmp_path):
    summary = summarise(write_run(tmp_path / "run", [], pending=("concentration-1-0",)))
    assert summary["progression"] == {"mean": None, "se": None, "ci95": None, "n": 0}
    assert summary["complete"] is False


def test_plays_of_one_seed_are_one_unit_of_inference(tmp_path):
    rows = [
        {"world": "w", "seed": seed, "progression": value}
        for seed, value in ((1, 0.2), (1, 0.4), (2, 0.6), (2, 0.8))
    ]
    result = estimate_of(rows, "progression")
    assert (result.n, result.mean) == (2, pytest.approx(0.5))
    assert result.se == pytest.approx(0.2)


def test_a_broken_run_file_is_named(tmp_path):
    run = write_run(tmp_path / "run", [play(1)])
    (run / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"run\.json is not JSON"):
        summarise(run)


def with_task(events, task):
    """The same play, of a world that says which of its tasks it is."""
    return [
        msgspec.structs.replace(
            event, outcome=msgspec.structs.replace(event.outcome, info={"task": task})
        )
        if isinstance(event, Observed) and event.step == 0
        else event
        for event in events
    ]


def test_a_world_of_several_tasks_has_a_row_for_each(tmp_path, capsys):
    plays = [with_task(play(seed), "Maze" if seed % 2 else "Quest") for seed in (1, 2, 3, 4)]
    summary = write_summary(write_run(tmp_path / "run", plays))
    assert [(row["task"], row["episodes"], row["n"]) for row in summary["tasks"]] == [
        ("Maze", 2, 2),
        ("Quest", 2, 2),
    ]
    mean = sum(row["mean"] for row in summary["tasks"]) / 2
    assert mean == pytest.approx(summary["progression"]["mean"])
    print_tasks(summary)
    told = capsys.readouterr().out
    assert "Maze" in told
    assert "Quest" in told
    assert f"{mean:.3f}" in next(line for line in told.split("\n") if "mean over tasks" in line)


def rows_of(values):
    """Rows of `episodes`: (task, progression), each with a seed of its own."""
    return [
        {"world": "w", "seed": seed, "task": task, "progression": value}
        for seed, (task, value) in enumerate(values)
    ]


def test_a_task_with_more_seeds_does_not_count_for_more():
    """Defect: the headline was the plain mean over seeds."""
    rows = rows_of([("Maze", 1.0), ("Maze", 0.0), ("Quest", 1.0)])
    assert progression_of(rows[1:]).mean == pytest.approx(0.5)
    uneven = [*rows, *rows_of([("Quest", 1.0)] * 9)[3:]]
    found = progression_of(uneven)
    assert (found.mean, found.n) == (pytest.approx(0.75), len(uneven))
    assert progression_of(uneven) == progression_of(uneven[::-1])


def test_the_interval_over_tasks_resamples_seeds_within_each_task():
    """Tasks that differ and seeds that do not: nothing is uncertain."""
    sure = progression_of(rows_of([("Maze", 1.0)] * 3 + [("Quest", 0.0)] * 3))
    assert (sure.mean, sure.se, sure.ci95) == (0.5, 0.0, (0.5, 0.5))
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    mixed = estimate_over([values, [0.3] * 4])
    alone = estimate(values)
    assert mixed.se == pytest.approx(alone.se / 2)
    assert mixed.ci95 == pytest.approx((0.15 + alone.ci95[0] / 2, 0.15 + alone.ci95[1] / 2))


def test_a_task_of_one_seed_leaves_no_interval():
    found = progression_of(rows_of([("Maze", 1.0), ("Maze", 0.0), ("Quest", 1.0)]))
    assert (found.mean, found.se, found.ci95, found.n) == (0.75, None, None, 3)


def test_worlds_of_one_task_are_estimated_as_ever():
    for task in (None, "Quest"):
        rows = rows_of([(task, 0.2), (task, 0.4), (task, 0.9)])
        assert progression_of(rows) == estimate([0.2, 0.4, 0.9])


def test_an_episode_of_several_tasks_counts_for_each_with_its_latest_score(tmp_path):
    """Defect: the scores of session families stayed in the journal."""

    def scored(events, scores):
        told = iter(scores)
        return [
            msgspec.structs.replace(
                event,
                outcome=msgspec.structs.replace(event.outcome, info={"task_scores": next(told)}),
            )
            if isinstance(event, Observed) and event.step < len(scores)
            else event
            for event in events
        ]

    plays = [
        scored(play(1), [{"people": 0.0, "proof": 0.0}, {"people": 0.5, "proof": 1.0}]),
        scored(play(2), [{"people": 0.0, "proof": 0.0}]),
    ]
    summary = summarise(write_run(tmp_path / "run", plays))
    assert [(row["task"], row["episodes"], row["mean"]) for row in summary["tasks"]] == [
        ("people", 2, 0.25),
        ("proof", 2, 0.5),
    ]
    plain = summarise(write_run(tmp_path / "plain", [play(1), play(2)]))
    assert summary["progression"] == plain["progression"]


def test_the_report_has_a_table_of_tasks(tmp_path):
    plays = [with_task(play(seed), f"Task {seed % 2}") for seed in (1, 2)]
    page = write_report(write_run(tmp_path / "run", plays)).read_text()
    assert "Each task" in page
    assert "Task 0" in page
    assert "Each task" not in write_report(write_run(tmp_path / "b", [play(1)])).read_text()


def test_a_world_of_one_task_has_no_table_of_tasks(tmp_path, capsys):
    summary = summarise(write_run(tmp_path / "run", [play(1)]))
    assert summary["tasks"] == []
    print_tasks(summary)
    assert capsys.readouterr().out == ""
