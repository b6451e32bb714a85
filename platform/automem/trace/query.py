"""SQL over runs: the tables of finished episodes as DuckDB views, with a column `run` in front;
`prompts` (one row per message, texts in full), `progress` (what each action led to) and `columns`
(what each column means) beside them.

Promise: a query reads the tables of the runs it was given and nothing else on the machine, and
changes nothing: DuckDB sees Arrow datasets instead of files, has external access switched off and
its configuration locked, and takes one reading statement at a time. Not covered: unfinished
episodes (`automem show` reads those), and queries that take for ever without a deadline.
"""

import csv
import io
import json
import os
import re
import threading
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow
import pyarrow.dataset
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from automem.errors import UsageError
from automem.suggest import did_you_mean, no_such
from automem.trace.progress import progress_sql
from automem.trace.summary import finished_episodes
from automem.trace.tables import TABLES, schema

SHOWN_ROWS = 200
"""Rows that a printed table holds; `--csv` and `--json` give all."""
_SHOWN_CHARS = 240
_PIPE_COLUMNS = 200
_READING = frozenset({"SELECT", "EXPLAIN"})

PROMPTS_VIEW = """
create view prompts as
select t.run, t.episode, t.step, t.turn, t.routine, t.role as answered_by, t.message,
       t.said.role as role, coalesce(b.text, t.said.text) as text
from (select run, episode, step, turn, routine, role,
             unnest(range(len(prompt))) as message, unnest(prompt) as said from turns) t
left join blobs b on b.run = t.run and b.episode = t.episode and b.name = t.said.text
"""
"""One row per message of a prompt, its text in full."""


class Answer(msgspec.Struct, frozen=True):
    """What a query gave."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def find_runs(patterns: Iterable[str | Path]) -> list[Path]:
    """Run directories that are named, that match a glob, or that lie below a named folder (as a
    sweep leaves them); UsageError where a pattern leads to none. A path that is there is no glob:
    its brackets are part of its name."""
    runs: dict[Path, None] = {}
    for pattern in patterns:
        named = os.path.expanduser(str(pattern))
        paths = [named] if os.path.exists(named) else sorted(glob(named))
        found = [run for path in paths for run in _below(Path(path))]
        if not found:
            raise UsageError(
                f"no run at {str(pattern)!r}: expected a folder with `tables` or `episodes` in it, "
                "as `automem rollout` names it at its end"
            )
        runs.update(dict.fromkeys(found))
    return list(runs)


def _below(path: Path) -> list[Path]:
    if any((path / name).is_dir() for name in ("tables", "episodes")):
        return [path]
    return sorted({table.parent for table in path.glob("**/tables") if table.is_dir()})


def query(runs: Sequence[Path], sql: str, deadline_s: float | None = None) -> Answer:
    """Run one reading statement; UsageError says what is wrong with it, or that it took longer
    than `deadline_s`."""
    connection = connect(runs)
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    watch = threading.Timer(deadline_s or 0.0, connection.interrupt)
    if deadline_s is not None:
        watch.start()
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise UsageError(f"expected one SQL statement, got {len(statements)}")
        kind = statements[0].type.name
        if kind not in _READING:
            raise UsageError(
                f"{kind} is not possible here: traces are only read. Use select, describe, "
                "summarize or explain; --csv and --json write results out"
            )
        result = connection.execute(statements[0])
        columns = tuple(column[0] for column in result.description or ())
        return Answer(columns, result.fetchall())
    except duckdb.InterruptException:
        raise UsageError(f"the query took longer than {deadline_s:g} s; ask for less") from None
    except duckdb.Error as error:
        raise UsageError(_explain(str(error))) from None
    finally:
        watch.cancel()
        connection.close()


def connect(runs: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A connection that has the tables of these runs as views; UsageError where no episode is
    finished. It may do anything: `query` locks its own before a person's SQL runs."""
    finished = {run: finished_episodes(run) for run in runs}
    if not any(finished.values()):
        names = ", ".join(str(run) for run in runs)
        raise UsageError(
            f"no episode of {names} is finished yet; `automem show RUN EPISODE` reads unfinished "
            "ones, `automem resume RUN` finishes them"
        )
    connection = duckdb.connect()
    connection.execute("set python_enable_replacements = false")  # no Python variable is a table
    for table in TABLES:
        parts = []
        for number, (run, episodes) in enumerate(finished.items()):
            paths = [str(run / "tables" / table / f"{name}.parquet") for name in episodes]
            if paths:
                _check_there(run, table, paths)
                dataset = pyarrow.dataset.dataset(paths, schema=schema(table), format="parquet")
                connection.register(f"_{table}_{number}", dataset)
                parts.append(f"select {_quoted(_name(run, runs))} as run, * from _{table}_{number}")
        connection.execute(f"create view {table} as {' union all '.join(parts)}")
    connection.execute(PROMPTS_VIEW)
    connection.execute(f"create view progress as {progress_sql()}")
    connection.register("columns", _columns())
    return connection


def _check_there(run: Path, table: str, paths: Sequence[str]) -> None:
    missing = next((path for path in paths if not os.path.exists(path)), None)
    if missing is not None:
        raise UsageError(
            f"{run} lacks the table {table!r} of {Path(missing).stem}: it was written by an older "
            "version, or copied in part; play it again"
        )


def _columns() -> pyarrow.Table:
    return pyarrow.Table.from_pylist(
        [
            {"table": table, "column": c.name, "type": str(c.type), "meaning": c.meaning}
            for table, columns in TABLES.items()
            for c in columns
        ]
    )


def run_names(runs: Sequence[Path]) -> dict[str, Path]:
    """The name by which each run goes in the column `run`."""
    return {_name(run, runs): run for run in runs}


def _name(run: Path, runs: Sequence[Path]) -> str:
    """A run's name: its folder's, or its path where two folders have the same one."""
    same = [other for other in runs if other.resolve().name == run.resolve().name]
    return run.resolve().name if len(same) == 1 else str(run)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _explain(message: str) -> str:
    """DuckDB's message; for a wrong name the nearest right one."""
    column = re.search(
        r'column "?([^"\s]+?)"? not found|does not have a column named "([^"]+)"', message
    )
    if column:
        name = column[1] or column[2]
        known = {c.name for columns in TABLES.values() for c in columns}
        guess = did_you_mean(name, known, limit=2) or ""
        return (
            f'no column {name!r} here{guess}\nEvery column and its meaning: "select * from columns"'
        )
    table = re.search(r"Table with name (\S+) does not exist", message)
    if table:
        return no_such("table", table[1], [*TABLES, "prompts", "progress", "columns"])
    return message.strip()


def print_answer(answer: Answer, console: Console) -> None:
    """As a table for people; long texts and many rows are cut, and it says so."""
    table = Table(show_edge=False, header_style="bold", pad_edge=False)
    kinds = zip(*answer.rows, strict=True) if answer.rows else ((),) * len(answer.columns)
    for name, values in zip(answer.columns, kinds, strict=True):
        is_number = all(isinstance(v, int | float) or v is None for v in values)
        table.add_column(escape(name), justify="right" if is_number and values else "left")
    for row in answer.rows[:SHOWN_ROWS]:
        table.add_row(*(_cell(value) for value in row))
    # A file or pipe has no edge to fit into; a terminal has.
    console.print(table, width=None if console.is_terminal else max(console.width, _PIPE_COLUMNS))
    more = len(answer.rows) - SHOWN_ROWS
    if more > 0:
        console.print(f"[dim]… and {more} more rows; --csv or --json gives all of them[/dim]")


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]null[/dim]"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.6g}"
    text = value if isinstance(value, str) else _flat(value)
    return escape(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _flat(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def as_json(answer: Answer) -> str:
    """A JSON array with one object per row."""
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return json.dumps(rows, ensure_ascii=False, indent=1, default=str)


def as_csv(answer: Answer) -> str:
    """CSV with a header; nested values as JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow(
            [
                "" if value is None else value if isinstance(value, str) else _flat(value)
                for value in row
            ]
        )
    return out.getvalue()
