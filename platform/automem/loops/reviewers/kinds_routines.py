"""What routines may do: operations, turns, results."""

from collections.abc import Iterator
from typing import Any

from automem.loops.reviewers.case import Case, listed, percent
from automem.loops.reviewers.edits import (
    Edit,
    set_ops,
)
from automem.memory.ops import OPS, READING


def narrow_ops(case: Case) -> Iterator[Edit]:
    """Take operations away that are hardly used."""
    for routine in ("log", "plan"):
        ops = list(getattr(case.schema, routine).ops)
        counts = case.findings.ops.get(routine, {})
        total = sum(counts.values())
        idle = [op for op in ops if counts.get(op, 0) < 0.05 * total]
        left = [op for op in ops if op not in idle]
        if total and idle and left:
            yield Edit(
                kind="narrow_ops",
                target=f"{routine} {' '.join(idle)}",
                title=f"{routine.upper()} does without {listed(idle)}",
                why=f"of {total} operations {sum(counts.get(op, 0) for op in idle)} were these",
                promise=0.03 + 0.5 * (case.findings.failed_ops or 0.0),
                change=set_ops(routine, left),
            )


def widen_ops(case: Case) -> Iterator[Edit]:
    """Give PLAN another way to look things up."""
    empty = case.findings.empty_searches or 0.0
    ops = list(case.schema.plan.ops)
    for op in ("TAIL", "READ"):
        if op not in ops:
            wanted = [name for name in OPS if name in {*ops, op} and name in READING]
            yield Edit(
                kind="widen_ops",
                target=f"plan {op}",
                title=f"PLAN may {op}, too",
                why=f"{percent(empty)} of searches found nothing",
                promise=0.25 * empty,
                change=set_ops("plan", wanted),
            )


def more_turns(case: Case) -> Iterator[Edit]:
    """Allow a routine more model calls, or fewer."""
    for routine, mean in (("log", case.findings.turns_log), ("plan", case.findings.turns_plan)):
        most = getattr(case.schema, routine).max_turns
        is_short = mean > 0.7 * most
        turns = min(100, 2 * most) if is_short else max(1, most // 2)
        if turns != most:

            def change(data: dict[str, Any], routine: str = routine, turns: int = turns) -> None:
                data[routine]["max_turns"] = turns

            yield Edit(
                kind="more_turns" if is_short else "fewer_turns",
                target=f"{routine} {turns}",
                title=f"{routine.upper()} has {turns} turns instead of {most}",
                why=f"it took {mean:.1f} on average",
                promise=0.3 * (mean / most - 0.7) if is_short else 0.02,
                change=change,
            )


def cap_results(case: Case) -> Iterator[Edit]:
    """Show fewer lines of a result, or more where they were cut."""
    cut = case.findings.cut_results or 0.0
    lines = case.schema.result_lines * 2 if cut else max(3, case.schema.result_lines // 5)

    def change(data: dict[str, Any]) -> None:
        data["result_lines"] = lines

    if lines != case.schema.result_lines and lines <= 100_000:
        yield Edit(
            kind="cap_results",
            target=str(lines),
            title=f"results show {lines} lines at most instead of {case.schema.result_lines}",
            why=f"{percent(cut)} of results were cut short",
            promise=0.02 + 0.5 * cut,
            change=change,
        )


def defer_commit(case: Case) -> Iterator[Edit]:
    """Let an action wait for the results of what was asked beside it."""

    def change(data: dict[str, Any]) -> None:
        data["defer_commit"] = True

    if not case.schema.defer_commit:
        yield Edit(
            kind="defer_commit",
            target="",
            title="an action beside a read waits until the results were shown",
            why=f"PLAN took {case.findings.turns_plan:.1f} turns on average",
            promise=0.02,
            change=change,
        )
