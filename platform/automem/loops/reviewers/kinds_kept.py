"""What is kept, and how: keys, repetitions, what is of no more use, files that nobody needs."""

from collections.abc import Iterator

import msgspec

from automem.agent.schema import FileKind
from automem.loops.reviewers.case import Case, listed, number, percent
from automem.loops.reviewers.edits import (
    Change,
    Edit,
    flow,
    remove_files,
    set_in_file,
    set_ops,
    together,
)

LENGTHS = (10, 30, 100, 300, 1_000)


def keyed(case: Case) -> Iterator[Edit]:
    """Let LOG set lines by key instead of adding them."""
    ops = list(case.schema.log.ops)
    if "APPEND" not in ops:
        return
    wanted = [op for op in ops if op != "APPEND"]
    wanted += [] if "UPSERT" in wanted else ["UPSERT"]
    changes: list[Change] = [set_ops("log", wanted)]
    twice, names = 0.0, []
    for file, found, share in case.used:
        if found.separator is not None and file.kind in (FileKind.TEXT, FileKind.KEYED):
            changes.append(set_in_file(file.name, separator=found.separator))
            twice += share * (found.repeated + found.contradicted) / found.written
            names.append(file.name)
    if names:
        yield Edit(
            kind="keyed",
            target=" ".join(names),
            title=f"LOG sets lines of {listed(names)} by key (UPSERT) instead of adding them",
            why=f"{percent(twice)} of their lines repeat another or replace one of the same key",
            promise=0.8 * twice,
            change=together(*changes),
        )


def drop_repeated(case: Case) -> Iterator[Edit]:
    """Of equal lines, keep the newest."""
    for file, found, share in case.used:
        if not file.drop_repeated and file.kind is not FileKind.LOG:
            yield Edit(
                kind="drop_repeated",
                target=file.name,
                title=f"of equal lines of {file.name} only the newest stays",
                why=f"{percent(found.repeated / found.written)} of its lines stood there already",
                promise=0.6 * share * found.repeated / found.written,
                change=set_in_file(file.name, drop_repeated=True),
            )


def drop_stale(case: Case) -> Iterator[Edit]:
    """Drop lines once the observation says that they are of no more use."""
    for file, _, share in case.used:
        known = {(rule.seen, rule.drop) for rule in file.drop}
        for rule in case.stale.get(file.name, ())[:3]:
            if (rule.seen, rule.drop) in known:
                continue
            rules = [msgspec.to_builtins(each) for each in file.drop]
            rules.append({"seen": rule.seen, "drop": rule.drop})
            yield Edit(
                kind="drop_stale",
                target=f"{file.name} {rule.seen} {rule.drop}",
                title=f"drop lines of {file.name} about {rule.drop} after `{rule.seen}`",
                why=f"{rule.lines} lines stood there at such a moment and {rule.used_later} of "
                f"them were used afterwards; that is {percent(rule.retired)} of all lines",
                promise=min(1.0, 0.9 * share * rule.retired),
                change=set_in_file(file.name, drop=flow(rules)),
            )


def keep_last(case: Case) -> Iterator[Edit]:
    """Keep only the newest lines of a file."""
    for file, found, share in case.used:
        reach = 3 * (found.distance or 10.0)
        lines = next((n for n in LENGTHS if n >= reach), LENGTHS[-1])
        if not file.keep_last and found.longest > lines:
            yield Edit(
                kind="keep_last",
                target=f"{file.name} {lines}",
                title=f"keep the newest {lines} lines of {file.name}",
                why=f"it grew to {found.longest} lines, and the median line that was used had "
                f"{number(found.distance)} newer ones after it",
                promise=0.3 * share * (1 - lines / found.longest),
                change=set_in_file(file.name, keep_last=lines),
            )


def remove_unused(case: Case) -> Iterator[Edit]:
    """Remove files that hold or find next to nothing of use."""
    used = case.used
    most = max((found.used + found.returned for _, found, _ in used), default=0)
    if not most:
        return
    names = [
        file.name
        for file in case.schema.files
        if 10 * (case.findings.file(file.name).used + case.findings.file(file.name).returned) < most
    ]
    written = sum(case.findings.file(name).written for name in names)
    asked = sum(case.findings.file(name).searches for name in names)
    all_written = sum(found.written for _, found, _ in used)
    all_asked = sum(found.searches for found in case.findings.files)
    if names:
        lost = (written / max(1, all_written) + asked / max(1, all_asked)) / 2
        yield Edit(
            kind="remove_unused",
            target=" ".join(names),
            title=f"do without {listed(names)}",
            why=f"{written} of {all_written} lines were written there and {asked} of {all_asked} "
            "questions asked, next to nothing of which was ever of use",
            promise=min(1.0, 0.05 + 1.5 * lost),
            change=remove_files(names),
        )
