"""Compaction: a finished episode's events become Parquet files, one per table.

Promise: each file appears whole or not at all (temporary file, then rename), `episodes` last, and
compacting again gives the same rows; rows leave memory in chunks, so an episode of any length
fits. Not covered: unfinished episodes; they are read from their journals.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from automem.crash import crash_point
from automem.errors import StoreError
from automem.trace.events import Event
from automem.trace.metrics import BY_NAME
from automem.trace.rows import rows
from automem.trace.tables import TABLES, schema

CHUNK_ROWS = 4096
"""Rows of a table that wait in memory: one row group of the file."""


class EpisodeSummary(msgspec.Struct, frozen=True):
    """What is worth knowing of a finished episode without opening its tables."""

    episode: str
    world: str
    seed: int
    replicate: int
    policy: str
    progression: float
    stop: str
    failed: bool
    steps: int
    turns: int
    ops: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    model_s: float
    world_s: float
    memory_bytes: int
    detail: str = ""
    metrics: dict[str, float] = {}


def warm_up() -> None:
    """Load what the first compaction would load (0.2 s), so that no episode has to wait for it."""
    pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("step", pa.int64())])).close()


def compact_episode(events: Iterable[Event], tables_dir: Path, episode: str) -> EpisodeSummary:
    """Write the tables of `episode` under `tables_dir`; StoreError where the disk refuses, or
    where the events do not hold a finished episode."""
    crash_point("compaction.before")
    writers = {table: _TableWriter(tables_dir / table, episode, table) for table in TABLES}
    last: dict[str, Any] | None = None
    try:
        for table, row in rows(events):
            writers[table].add(row)
            if table == "episodes":
                last = row
        if last is None:
            raise StoreError(f"{episode} has no end: only finished episodes become tables")
        for writer in writers.values():
            writer.finish()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write the tables of {episode}: {error}") from error
    finally:
        for writer in writers.values():
            writer.abandon()
    crash_point("compaction.after")
    metrics = {name: last[name] for name in BY_NAME if name in last}
    return msgspec.convert({**last, "metrics": metrics}, EpisodeSummary)


class _TableWriter:
    """One Parquet file in the making."""

    def __init__(self, folder: Path, episode: str, table: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{episode}.parquet"
        self._temporary = folder / f".{episode}.{os.getpid()}.tmp"
        self._schema = schema(table)
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= CHUNK_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def finish(self) -> None:
        """Write what waits and give the file its name."""
        if self._rows or self._writer is None:
            self._flush()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        os.replace(self._temporary, self._path)

    def abandon(self) -> None:
        """Remove what was not finished; nothing to do after `finish`."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._temporary.unlink(missing_ok=True)
