"""Each metric on a trace small enough to count by hand."""

import pytest

from automem.memory.ops import Append, Create, Edit, OpResult, OpStatus, Read, Search, Upsert
from automem.trace.events import (
    SCHEMA,
    CommitSource,
    Committed,
    Ended,
    EpisodeStarted,
    MemoryChanged,
    Observed,
    OpDone,
    Outcome,
    Role,
    Routine,
    StopReason,
    Turn,
)
from automem.trace.metrics import METRICS
from automem.trace.rows import rows

STARTED = EpisodeStarted(SCHEMA, "w-1-0", "w", 1, 0, 1, 9, "p", "s", "play", "wait")
OK, SAME = OpResult(OpStatus.OK, "ok"), OpResult(OpStatus.UNCHANGED, "unchanged")


def turn(step, number, role=Role.MEMORY, **more):
    routine = Routine.PLAN if role is Role.GAMEPLAY else Routine.LOG
    return Turn(step, number, routine, role, [("user", "x")], "y", **more)


def metrics_of(*events):
    last = [row for table, row in rows([STARTED, *events]) if table == "episodes"]
    return {metric.name: last[0].get(metric.name) for metric in METRICS}


def observed(step, changed=True, invalid=False, **more):
    return Observed(step, f"o{step}", changed, Outcome(0.0, invalid_action=invalid), **more)


END = Ended(StopReason.CAP, 0.0, 0)


def test_an_action_is_unproductive_if_nothing_changed_or_it_was_invalid():
    model = CommitSource.MODEL
    found = metrics_of(
        observed(0), Committed(0, "a", model),
        observed(1, changed=False), Committed(1, "b", model),
        observed(2, invalid=True), Committed(2, "c", model),
        observed(3, changed=False, invalid=True), Committed(3, "d", model),
        observed(4), END,
    )  # fmt: skip
    assert found["unproductive_actions"] == 3 / 4
    assert found["invalid_actions"] == 2 / 4


def test_the_action_the_world_never_answered_counts_as_commit_not_as_action():
    found = metrics_of(observed(0), Committed(0, "a", CommitSource.FALLBACK), END)
    assert found["fallbacks"] == 1.0
    assert found["unproductive_actions"] is None


def test_fallbacks_and_forced_commits_are_told_apart():
    sources = [CommitSource.MODEL, CommitSource.FORCED, CommitSource.FALLBACK, CommitSource.MODEL]
    events = [e for i, s in enumerate(sources) for e in (observed(i), Committed(i, "a", s))]
    found = metrics_of(*events, END)
    assert (found["fallbacks"], found["forced_commits"]) == (0.25, 0.25)


def test_redundant_writes_are_lines_already_there_and_writes_without_effect():
    def op(index, op, result, edit=None):
        return OpDone(0, 0, index, op, result, edit)

    found = metrics_of(
        MemoryChanged(0, "initial", Edit("f", inserted="a\n", creates=True), ""),
        observed(0), turn(0, 0),
        op(0, Append("f", "b"), OK, Edit("f", start=2, inserted="b\n")),  # new
        op(1, Append("f", "a\nc"), OK, Edit("f", start=4, inserted="a\nc\n")),  # one of two
        op(2, Upsert("f", "k", "v"), SAME),  # as it was
        op(3, Create("g"), OK, Edit("g", creates=True)),  # writes no line
        op(4, Append("f", "x"), OpResult(OpStatus.ERROR, "error: full")),  # wrote nothing
        END,
    )  # fmt: skip
    assert found["redundant_writes"] == 2 / 4
    assert found["failed_ops"] == 1 / 5


def test_only_searches_count_as_empty_searches():
    empty = OpResult(OpStatus.EMPTY, "no match")
    found = metrics_of(
        observed(0), turn(0, 0),
        OpDone(0, 0, 0, Search("f", "k"), empty),
        OpDone(0, 0, 1, Search("f", "q"), OpResult(OpStatus.OK, "q")),
        OpDone(0, 0, 2, Read("f"), OpResult(OpStatus.EMPTY, "empty")),
        OpDone(0, 0, 3, Search("nowhere", "q"), OpResult(OpStatus.ERROR, "error: no file")),
        END,
    )  # fmt: skip
    assert found["empty_searches"] == 0.5


def test_tokens_context_and_cache_are_counted_per_step_and_role():
    found = metrics_of(
        observed(0),
        turn(0, 0, prompt_tokens=100, cached_tokens=50, completion_tokens=10, malformed=["?"]),
        turn(0, 1, Role.GAMEPLAY, prompt_tokens=200, cached_tokens=180, completion_tokens=4),
        observed(1),
        turn(1, 0, prompt_tokens=100, cached_tokens=70, completion_tokens=20),
        END,
    )
    assert found["context_tokens_per_step"] == (204 + 120) / 2
    assert found["tokens_in_per_step"] == 400 / 2
    assert found["tokens_out_per_step"] == 34 / 2
    assert found["cached_prompt_memory"] == 120 / 200
    assert found["cached_prompt_gameplay"] == 180 / 200
    assert found["malformed_turns"] == pytest.approx(1 / 3)
    assert found["turns_per_step"] == 1.5


def test_wall_time_splits_into_shares_that_add_up():
    found = metrics_of(
        observed(0, time=100.0),
        turn(0, 0, seconds=0.6),
        Committed(0, "a", CommitSource.MODEL),
        observed(1, time=101.0, world_s=0.3),
        END,
    )
    assert found["time_model"] == pytest.approx(0.6)
    assert found["time_world"] == pytest.approx(0.3)
    assert found["time_platform"] == pytest.approx(0.1)


def test_a_ratio_over_nothing_is_undefined_not_zero():
    found = metrics_of(observed(0), END)
    assert found["empty_searches"] is None
    assert found["redundant_writes"] is None


def test_every_metric_says_what_it_is():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(len(metric.meaning) > 20 for metric in METRICS)
