"""One table at the end: runs as rows, from their summaries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = ("progression", "95 % interval", "episodes", "steps/s", "steps", "tokens", "platform")
FEWER_COLUMNS = 4
"""What a terminal narrower than `NARROW` shows of them."""
NARROW = 120
LOG_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Row:
    """One run: its name and either its `summary.json` or why there is none."""

    name: str
    summary: Mapping[str, Any] | None
    note: str = ""
    value: float | None = None
    """Progression of a reference point, which has no summary."""


def print_table(rows: Sequence[Row], title: str = "", console: Console | None = None) -> None:
    """Progression with its interval first, then what it took."""
    console = console or wide_console()
    shown = len(COLUMNS) if console.width >= NARROW else FEWER_COLUMNS
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("run")
    for column in COLUMNS[:shown]:
        table.add_column(column, justify="right", no_wrap=True)
    has_notes = any(row.note or (row.summary and _troubles(row.summary)) for row in rows)
    if has_notes:
        table.add_column("note")
    for row in rows:
        notes = [", ".join(filter(None, [row.note, _troubles(row.summary or {})]))]
        table.add_row(row.name, *_cells(row)[:shown], *(notes if has_notes else []))
    console.print(table)


def print_tasks(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Progression by task, for worlds that have several: a row each, and their mean, which is how
    such worlds are published. Prints nothing where there are none."""
    tasks = summary.get("tasks", ())
    if not tasks:
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task")
    for column in ("progression", "95 % interval", "episodes"):
        table.add_column(column, justify="right", no_wrap=True)
    for task in tasks:
        table.add_row(
            task["task"], number(task["mean"]), interval(task["ci95"]), str(task["episodes"])
        )
    table.add_section()
    mean = sum(task["mean"] for task in tasks) / len(tasks)
    table.add_row("mean over tasks", number(mean), "", str(sum(t["episodes"] for t in tasks)))
    (console or wide_console()).print(table)


def wide_console() -> Console:
    """The terminal; where there is none (a log, a pipe), lines long enough for a table."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(width=LOG_WIDTH, highlight=False)


def _cells(row: Row) -> list[str]:
    summary = row.summary
    if summary is None:
        return [number(row.value), *["–"] * (len(COLUMNS) - 1)]
    tokens, cost = summary["tokens"], summary["platform_ms_per_step"]
    return [
        number(summary["progression"]["mean"]),
        interval(summary["progression"]["ci95"]),
        f"{summary['finished']}/{summary['episodes']}",
        "–" if summary["steps_per_s"] is None else f"{summary['steps_per_s']:,.0f}",
        f"{summary['steps']:,}",
        f"{tokens['in'] + tokens['out']:,}",
        f"{cost:.1f} ms/step" if cost is not None else "–",
    ]


def _troubles(summary: Mapping[str, Any]) -> str:
    parts = [f"{summary[name]} {name}" for name in ("failed", "pending") if summary.get(name)]
    return ", ".join(parts)


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """`0.512 to 0.634`, or a dash."""
    return "–" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
