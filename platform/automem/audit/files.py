"""Files of a run that are no journals, with a fact masked: text, JSON, Parquet, archives, the rest.

`masked` gives a file's new bytes, or None where it does not hold the fact. Text is masked in place;
JSON stays JSON; a Parquet file keeps schema, compression and row groups, and a masked completion
loses its token ids; `.gz` and `.zip` files (NumPy's and torch's among them) are opened and packed
again; any other file is searched byte by byte and masked without changing its length. Weights and
tokenizers are left as they are and noted in `Context.kept` where their bytes hold the fact. Not
covered: what is encrypted or compressed in another way, and what weights have learned.
"""

import functools
import gzip
import io
import json
import os
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automem.audit.needle import Needle
from automem.audit.texts import Masker
from automem.audit.weights import why_kept
from automem.errors import StoreError
from automem.rollout.redactions import FORGOTTEN

PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"
NAMES_STAY = "names, ids or keys hold it, by which programs find their way: they stay"


@dataclass(slots=True)
class Context:
    """What is known of the whole folder."""

    needle: Needle
    renames: dict[str, str] = field(default_factory=dict)
    """Old to new names of texts."""
    turns: set[tuple[Any, ...]] = field(default_factory=set)
    """(run's folder, episode, step, turn) whose completion was masked: they lose their tokens."""
    forgotten: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """(run's folder, episode, step) to the first turn that can be trained on no more."""
    kept: dict[Path, str] = field(default_factory=dict)
    """Files that hold the fact and are not masked, and why; members of archives below theirs."""


def kind_of(path: Path, data: bytes) -> str:
    """What the file is, in a word for the report."""
    if data[:4] == PARQUET:
        return "table"
    if data[:2] == GZIP or data[:4] == ZIP:
        return "archive"
    if path.suffix in (".json", ".jsonl"):
        return "records"
    return "text" if _as_text(data) is not None else "binary"


def masked(
    path: Path, data: bytes, context: Context, beside: Collection[str] | None = None
) -> bytes | None:
    """New bytes of the file, None where nothing is to change. `beside`: names in its folder, None:
    those on the disk. StoreError where a file that claims to be a table or an archive cannot be
    read."""
    try:
        new = _by_kind(path, data, context)
    except (pa.ArrowException, zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
        raise StoreError(f"{path} cannot be read, so nothing is known of it: {error}") from error
    if new == data and path not in context.kept:
        return None
    if beside is None:
        beside = os.listdir(path.parent) if path.parent.is_dir() else ()
    if why := why_kept(path.name, _as_text(data) is not None, beside):
        context.kept[path] = why
        return None
    return None if new == data else new


def occurrences(path: Path, data: bytes, needle: Needle) -> int:
    """How often a file holds it: a table in its cells; an archive counts once."""
    kind = kind_of(path, data)
    if kind == "archive":
        return 1
    if kind == "table":
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        return max(1, sum(map(needle.count, _strings(rows))))
    return max(1, needle.count(data.decode(errors="replace")))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _by_kind(path: Path, data: bytes, context: Context) -> bytes:
    kind = kind_of(path, data)
    if kind == "table":
        return _masked_table(path, data, context)
    if kind == "archive":
        return _masked_archive(path, data, context)
    text = _as_text(data)
    if text is None:
        return context.needle.mask_bytes(data)
    masker = Masker(context.needle, context.renames)
    if path.suffix == ".json":
        new = _masked_json(path, text, masker, 2)
    elif path.suffix == ".jsonl":
        lines = text.splitlines(keepends=True)
        new = "".join(_masked_json(path, line, masker, None) for line in lines)
    else:
        new = masker.source(path, text)
    _note(path, masker, context)
    return new.encode()


def _note(path: Path, masker: Masker, context: Context) -> None:
    if masker.kept:
        context.kept[path] = NAMES_STAY


def _as_text(data: bytes) -> str | None:
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _masked_json(path: Path, text: str, masker: Masker, indent: int | None) -> str:
    """Strings are masked; the spelling stays where it can, and numbers stay numbers."""
    try:
        value = json.loads(text)
    except ValueError:
        return masker.needle.mask_source(text)
    wanted = masker.json(value, path)
    if wanted == value:
        return text
    simple = masker.needle.mask_source(text)
    try:
        if json.loads(simple) == wanted:
            return simple
    except ValueError:
        pass  # it would have masked a number, or a key: the texts alone, then
    end = "\n" if text.endswith("\n") else ""
    return json.dumps(wanted, ensure_ascii=False, indent=indent) + end


def _masked_table(path: Path, data: bytes, context: Context) -> bytes:
    source = pq.ParquetFile(io.BytesIO(data))
    schema = source.schema_arrow
    masker = Masker(context.needle, context.renames)
    groups, is_changed = [], False
    for number in range(source.num_row_groups):
        rows = source.read_row_group(number).to_pylist()
        new = [_masked_row(path, row, masker, context) for row in rows]
        is_changed = is_changed or new != rows
        groups.append(new)
    _note(path, masker, context)
    if not is_changed:
        return data
    out = io.BytesIO()
    used = source.metadata.row_group(0).column(0).compression
    compression = "none" if used == "UNCOMPRESSED" else used
    with pq.ParquetWriter(out, schema, compression=compression) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return out.getvalue()


def _masked_row(
    path: Path, row: dict[str, Any], masker: Masker, context: Context
) -> dict[str, Any]:
    new = masker.row(row)
    step = _run_of(path, row), row.get("episode"), row.get("step")
    turn = row.get("turn")
    if (*step, turn) in context.turns or new.get("completion") != row.get("completion"):
        new |= {name: None for name in ("token_ids", "logprobs") if name in row}
    first = context.forgotten.get(step)
    if new.get("is_selected") and first is not None and turn is not None and turn >= first:
        new |= {"is_selected": False, "reason": FORGOTTEN}
    return new


def _run_of(table: Path, row: dict[str, Any]) -> Path | None:
    """The folder of the run that a row is of: two runs may have episodes of one name."""
    if isinstance(row.get("run"), str):
        return _moved(row["run"], table.parent)
    return table.parents[2] if table.parent.parent.name == "tables" else None


@functools.lru_cache(maxsize=1024)
def _moved(run: str, selection: Path) -> Path:
    """Where a run is that a selection names: there, or beside the selection where both have been
    moved (as selections are read)."""
    if Path(run).is_dir():
        return Path(run).resolve()
    parts = Path(run).parts
    for parent in selection.absolute().parents:
        for start in range(1, len(parts)):
            if (place := parent.joinpath(*parts[start:])).is_dir():
                return place.resolve()
    return Path(run)


def _masked_archive(path: Path, data: bytes, context: Context) -> bytes:
    if data[:2] == GZIP:
        inner = gzip.decompress(data)
        new = masked(path / path.stem, inner, context, beside=())
        return data if new is None else gzip.compress(new, mtime=0)
    out = io.BytesIO()
    is_changed = False
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        names = [Path(name) for name in source.namelist()]
        for info in source.infolist():
            inner, own = source.read(info), Path(info.filename).parent
            beside = [name.name for name in names if name.parent == own]
            new = masked(Path(f"{path}/{info.filename}"), inner, context, beside)
            is_changed = is_changed or new is not None
            target.writestr(info, inner if new is None else new)
    return out.getvalue() if is_changed else data
