"""Questions over all episodes: text search, SQL, metrics, findings.

Promise: reading only, with a deadline on every query; a page at a time. Not covered: queries whose
single answer is larger than memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.reviewers.episodes import Place
from automem.loops.reviewers.findings import find
from automem.loops.reviewers.pages import page
from automem.suggest import no_such
from automem.trace.metrics import METRICS
from automem.trace.query import Answer, as_csv, query

DEADLINE_S = 30.0
ROWS_AT_ONCE = 200
PLACES = ("observations", "actions", "said", "written", "results")
"""Where `search` looks."""
_AROUND = 100
"""Characters shown on each side of what was found."""
_CELL_CHARS = 2_000


def search(runs: Sequence[Path], text: str, where: str, only: Place | None, cursor: str) -> str:
    """Where a text occurs, an item each."""
    if not text.strip():
        raise UsageError("`text` is empty: what should be looked for?")
    if where and where not in PLACES:
        raise UsageError(no_such("place to search", where, PLACES))
    sql = _search_sql(text, where, only)

    def items(start: int) -> Iterator[tuple[int, str]]:
        while True:
            rows = _asked(runs, f"{sql} limit {ROWS_AT_ONCE} offset {start}").rows
            for number, (run, episode, step, place, found) in enumerate(rows, start):
                prefix = f"{run}/" if len(runs) > 1 else ""
                yield number, f"{prefix}{episode} step {step}, {place}: {_snippet(found, text)}"
            start += len(rows)
            if len(rows) < ROWS_AT_ONCE:
                return

    return page(items, cursor)


def _search_sql(text: str, where: str, only: Place | None) -> str:
    sources = {
        "observations": ("steps", "observation", "-1"),
        "actions": ("steps", "action", "1000000"),
        "said": ("turns", "completion", "turn"),
        "written": ("ops", "text", "turn"),
        "results": ("ops", "result", "turn"),
    }
    limits = [f"episode = {quoted(only.episode)}"] if only else []
    if only is not None:
        limits.append(f"run = {quoted(only.run_name)}")
    parts = [
        f"select run, episode, step, '{place}' as place, {column} as found, {turn} as turn "
        f"from {table} where "
        + " and ".join([f"contains(lower({column}), lower({quoted(text)}))", *limits])
        for place, (table, column, turn) in sources.items()
        if where in ("", place)
    ]
    return (
        f"select run, episode, step, place, found from ({' union all '.join(parts)}) "
        "order by run, episode, step, turn, place, found"
    )


def _snippet(found: str, text: str) -> str:
    at = max(0, found.lower().find(text.lower()))
    start, end = max(0, at - _AROUND), at + len(text) + _AROUND
    lead, trail = "…" if start else "", "…" if end < len(found) else ""
    return lead + " · ".join(found[start:end].split("\n")) + trail


def sql(runs: Sequence[Path], text: str, cursor: str) -> str:
    """A query's rows as CSV, an item each; the header stands on every page."""
    text = text.strip().removesuffix(";")
    head: list[str] = []

    def items(start: int) -> Iterator[tuple[int, str]]:
        while True:
            answer = _window(runs, text, start)
            rows = [[_cell(value) for value in row] for row in answer.rows]
            lines = [as_csv(Answer((), [tuple(row)])).strip("\r\n") for row in rows]
            head[:] = [",".join(answer.columns)]
            yield from enumerate(lines, start)
            start += len(rows)
            if len(rows) < ROWS_AT_ONCE:
                return

    body = page(items, cursor)
    return "\n".join([*head, body])


def _window(runs: Sequence[Path], text: str, start: int) -> Answer:
    """Some rows of an answer; the whole where only the whole can be had (`explain`)."""
    if text.lower().startswith("explain"):
        answer = _asked(runs, text)
        return Answer(answer.columns, answer.rows[start : start + ROWS_AT_ONCE])
    limits = f"limit {ROWS_AT_ONCE} offset {start}"
    return _asked(runs, f"select * from (\n{text}\n) {limits}")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _CELL_CHARS:
        return f"{value[:_CELL_CHARS]}… ({len(value)} characters; substr() shows the rest)"
    return value


def metrics(runs: Sequence[Path], only: Place | None, cursor: str) -> str:
    """Every metric of every episode, or of one."""
    names = ", ".join(metric.name for metric in METRICS)
    limit = ""
    if only is not None:
        limit = f"where episode = {quoted(only.episode)} and run = {quoted(only.run_name)}"
    answer = _asked(
        runs,
        f"select run, episode, progression, {names} from episodes {limit} order by run, episode",
    )

    def items(start: int) -> Iterator[tuple[int, str]]:
        legend = "\n".join(f"{m.name}: {m.meaning} ({m.unit})" for m in METRICS)
        texts = [legend] + [_metric_line(answer.columns, row) for row in answer.rows]
        yield from enumerate(texts[start:], start)

    return page(items, cursor)


def _metric_line(columns: Sequence[str], row: Sequence[Any]) -> str:
    run, episode, *values = row
    pairs = zip(columns[2:], values, strict=True)
    told = " ".join(f"{name}={value:.3g}" for name, value in pairs if value is not None)
    return f"{run}/{episode}: {told}"


def findings(runs: Sequence[Path], cursor: str) -> str:
    """The failure statistics, a line each."""
    found = find(runs)
    lines = []
    for field in found.__struct_fields__:
        value = getattr(found, field)
        if field == "files":
            lines += [f"file {msgspec.json.encode(file).decode()}" for file in value]
        elif value is not None:
            told = f"{value:.3f}" if isinstance(value, float) else value
            lines.append(f"{field}: {told}")

    def items(start: int) -> Iterator[tuple[int, str]]:
        yield from enumerate(lines[start:], start)

    return page(items, cursor)


def _asked(runs: Sequence[Path], text: str) -> Answer:
    return query(runs, text, DEADLINE_S)


def quoted(text: str) -> str:
    """An SQL text."""
    return "'" + text.replace("'", "''") + "'"
