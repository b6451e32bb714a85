"""A selection on disk: `turns.parquet` (every turn of the memory role, flagged) and `report.json`.

Promise: nothing is deleted; a turn that was not selected is there with its reason. What a dataset
is made of are the selected turns, by run, episode, step and turn. Reading an empty selection is a
`UsageError`: there would be nothing to train on.
"""

import functools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from automem.errors import UsageError
from automem_learners.select.verdict import Judged, Kind

TURNS = "turns.parquet"
REPORT = "report.json"
_CHUNK = 4096

_COLUMNS = pa.schema(
    [
        ("run", pa.string()),
        ("episode", pa.string()),
        ("step", pa.int32()),
        ("turn", pa.int32()),
        ("world", pa.string()),
        ("seed", pa.int64()),
        ("kind", pa.string()),
        ("tokens", pa.int32()),
        ("form", pa.string()),
        ("is_good", pa.bool_()),
        ("is_selected", pa.bool_()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("value", pa.float64()),
        ("weight", pa.float64()),
    ]
)


class SelectedTurn(msgspec.Struct, frozen=True):
    """One turn to be learned."""

    run: str
    """The run's folder."""
    episode: str
    step: int
    turn: int
    kind: Kind
    why: str
    weight: float
    seed: int
    tokens: int


class Selection(msgspec.Struct, frozen=True):
    """The selected turns of a selection."""

    selector: str
    turns: tuple[SelectedTurn, ...]
    path: Path

    def by_episode(self) -> dict[tuple[str, str], dict[tuple[int, int], SelectedTurn]]:
        """(run, episode) to (step, turn) to the turn: what dataset readers take."""
        found: dict[tuple[str, str], dict[tuple[int, int], SelectedTurn]] = {}
        for turn in self.turns:
            found.setdefault((turn.run, turn.episode), {})[turn.step, turn.turn] = turn
        return found


def write_turns(folder: Path, turns: Iterable[Judged]) -> None:
    """`turns.parquet`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{TURNS}.{os.getpid()}.tmp"
    rows: list[dict[str, Any]] = []
    try:
        with pq.ParquetWriter(temporary, _COLUMNS, compression="zstd") as writer:
            for judged in turns:
                rows.append(_row(judged))
                if len(rows) >= _CHUNK:
                    writer.write_table(pa.Table.from_pylist(rows, schema=_COLUMNS))
                    rows.clear()
            writer.write_table(pa.Table.from_pylist(rows, schema=_COLUMNS))
        os.replace(temporary, folder / TURNS)
    finally:
        temporary.unlink(missing_ok=True)


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """`report.json`; last, so that it says that the turns are there."""
    temporary = folder / f".{REPORT}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    os.replace(temporary, folder / REPORT)


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json`; UsageError where the folder holds no selection."""
    try:
        return dict(json.loads((folder / REPORT).read_bytes()))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} holds no selection: expected {REPORT} and {TURNS} in it, as `automem select "
            "... out=FOLDER` writes them"
        ) from None
    except ValueError as error:
        raise UsageError(f"{folder / REPORT} is damaged ({error}): select again") from None


def read_selection(folder: Path) -> Selection:
    """The selected turns; UsageError where there are none, with the report's word on it."""
    report = read_report(folder)
    table = pq.read_table(folder / TURNS, filters=[("is_selected", "=", True)])
    turns = tuple(
        SelectedTurn(
            kind=Kind(row["kind"]),
            why=": ".join(filter(None, [row["reason"], row["detail"]])),
            run=_where(row["run"], folder),
            **{name: row[name] for name in _SAME},
        )
        for row in table.to_pylist()
    )
    if not turns:
        raise UsageError(f"the selection {folder} is empty: {report['verdict']}")
    return Selection(report["selector"], turns, folder)


_SAME = ("episode", "step", "turn", "weight", "seed", "tokens")


@functools.lru_cache
def _where(run: str, selection: Path) -> str:
    """A run's folder: as it was written down, or where it is beside a selection that has been moved
    together with it."""
    if Path(run).is_dir():
        return run
    parts = Path(run).parts
    for parent in selection.absolute().parents:
        for start in range(1, len(parts)):
            if (place := parent.joinpath(*parts[start:])).is_dir():
                return str(place)
    return run


def _row(judged: Judged) -> dict[str, Any]:
    key, verdict = judged.key, judged.verdict
    same = ("world", "seed", "tokens", "form", "is_selected", "weight")
    return {
        **{name: getattr(key, name) for name in ("run", "episode", "step", "turn")},
        **{name: getattr(judged, name) for name in same},
        "kind": judged.kind.value,
        **{name: getattr(verdict, name) for name in ("is_good", "reason", "detail", "value")},
    }
