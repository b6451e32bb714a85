"""What is put before the agent unasked: lines of files, goals, notices."""

from collections.abc import Iterator

from automem.agent.schema import FileKind, FileSchema
from automem.loops.reviewers.case import Case, number, percent
from automem.loops.reviewers.edits import (
    Edit,
    add_to,
    flow,
    set_in_file,
)

WINDOWS = (5, 10, 20, 40)
"""Lines shown unasked that are worth trying."""
_CONSULTING = 1.5
"""A window should reach half again as far back as the median line that was used."""


def show_last(case: Case) -> Iterator[Edit]:
    """Show the last lines of a file in every PLAN."""
    for file, found, share in case.used:
        if file.show_last:
            continue
        reach = _CONSULTING * found.distance if found.distance is not None else 10.0
        best = next((n for n in WINDOWS if n >= reach), WINDOWS[-1])
        for lines in WINDOWS:
            fit = 1.0 if lines == best else 0.5
            yield Edit(
                kind="show_last",
                target=f"{file.name} {lines}",
                title=f"show the last {lines} lines of {file.name} in every PLAN",
                why=f"{percent(case.unseen)} of steps were played without a line of memory in "
                f"view; lines that were used had {number(found.distance)} newer ones after them",
                promise=0.9 * case.unseen * share * fit,
                change=set_in_file(file.name, show_last=lines),
            )


def resize_window(case: Case) -> Iterator[Edit]:
    """Show more lines, or fewer, of a file that is shown."""
    for file, found, share in case.used:
        if file.show_last <= 0 or "plan" not in file.show_in:
            continue
        wide = max(0.0, min(1.0, 1 - (found.searches - found.empty) / max(1, case.findings.steps)))
        for lines, fit in ((2 * file.show_last, 0.4), (max(1, file.show_last // 2), 0.2)):
            yield Edit(
                kind="resize_window",
                target=f"{file.name} {lines}",
                title=f"show {lines} lines of {file.name} instead of {file.show_last}",
                why=f"its files are asked in {percent(1 - wide)} of steps beside what is shown",
                promise=fit * share * wide * 0.5,
                change=set_in_file(file.name, show_last=lines),
            )


def show_all(case: Case) -> Iterator[Edit]:
    """Show the whole of a file in every PLAN."""
    for file, found, share in case.used:
        if file.show_last >= 0:
            yield Edit(
                kind="show_all",
                target=file.name,
                title=f"show all of {file.name} in every PLAN",
                why=f"{percent(case.unseen)} of steps were played without a line of memory in "
                f"view; it grew to {found.longest} lines at most",
                promise=0.5 * case.unseen * share / (1 + found.longest / 40),
                change=set_in_file(file.name, show_last=-1),
            )


def show_in_log(case: Case) -> Iterator[Edit]:
    """Show LOG what is written already."""
    redundant = case.findings.redundant_writes or 0.0
    for file, _, share in case.used:
        if "log" not in file.show_in:
            lines = file.show_last or 10
            yield Edit(
                kind="show_in_log",
                target=f"{file.name} {lines}",
                title=f"show the last {lines} lines of {file.name} in every LOG",
                why=f"{percent(redundant)} of written lines stood in the file already",
                promise=0.5 * redundant * share,
                change=set_in_file(
                    file.name, show_last=lines, show_in=flow([*_shown_in(file), "log"])
                ),
            )


def _shown_in(file: FileSchema) -> list[str]:
    return list(file.show_in) if file.show_last else []


def add_goals(case: Case) -> Iterator[Edit]:
    """Add a checklist of goals that every PLAN shows."""
    names = {file.name for file in case.schema.files}
    if "goals.txt" in names or any(f.kind is FileKind.CHECKLIST for f in case.schema.files):
        return
    lost = case.findings.stuck or 0.0
    yield Edit(
        kind="add_goals",
        target="goals.txt",
        title="add goals.txt, a checklist that every PLAN shows",
        why=f"{percent(lost)} of actions lay in stretches that led nowhere",
        promise=0.02 + 0.4 * lost,
        change=add_to(
            "files",
            {
                "name": "goals.txt",
                "purpose": "what to do next",
                "kind": "checklist",
                "drop_done": True,
                "show_last": 5,
            },
        ),
    )


def notice(case: Case) -> Iterator[Edit]:
    """Say when the same is done again and nothing comes of it."""
    there = {each.when for each in case.schema.notices}
    for when, steps, share, what in (
        ("unchanged", 2, case.findings.stuck, "lay in stretches that led nowhere"),
        ("repeated", 3, case.findings.repeated, "were taken for at least the third time in a row"),
        ("oscillating", 4, case.findings.oscillating, "went back and forth"),
    ):
        if when not in there:
            yield Edit(
                kind="notice",
                target=when,
                title=f"a notice when things are {when} for {steps} steps",
                why=f"{percent(share or 0.0)} of actions {what}",
                promise=0.01 + 0.7 * (share or 0.0),
                change=add_to("notices", {"when": when, "steps": steps}),
            )


def notice_long(case: Case) -> Iterator[Edit]:
    """Ask LOG to write a shorter version of a file that has grown long."""
    if "WRITE" not in case.schema.log.ops:
        return
    for file, found, share in case.used:
        lines = next((n for n in (60, 200, 600) if n >= 2 * (found.distance or 10.0)), 600)
        if file.kind is not FileKind.LOG and found.longest > lines:
            yield Edit(
                kind="notice_long",
                target=f"{file.name} {lines}",
                title=f"tell LOG when {file.name} has more than {lines} lines",
                why=f"it grew to {found.longest} lines",
                promise=0.2 * share * (1 - lines / found.longest),
                change=add_to(
                    "notices",
                    {
                        "when": f'lines("{file.name}") > {lines}',
                        "text": f'{file.name} has {{lines("{file.name}")}} lines; '
                        "WRITE a shorter version",
                        "routines": flow(["log"]),
                    },
                ),
            )
