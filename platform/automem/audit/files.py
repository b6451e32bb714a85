"""Files of a run that are no journals, with a fact masked: text, JSON, Parquet, archives, the rest.

`masked` gives a file's new bytes, or None where it does not hold the fact. Text is masked in place;
JSON stays JSON; a Parquet file keeps schema, compression and row groups, and a masked completion
loses its token ids; `.gz` and `.zip` files (NumPy's and torch's among them) are opened and packed
again; any other file is searched byte by byte and masked without changing its length. Not covered:
what is encrypted or compressed in another way, and weights, in which no bytes can be searched.
"""

import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automem.audit.journals import mask_strings
from automem.audit.needle import Needle
from automem.errors import StoreError

PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"
FORGOTTEN = "forgotten"
"""Why a turn of a selection is selected no more."""


@dataclass(slots=True)
class Context:
    """What is known of the whole folder."""

    needle: Needle
    renames: dict[str, str] = field(default_factory=dict)
    """Old to new names of texts."""
    turns: set[tuple[str, int, int]] = field(default_factory=set)
    """(episode, step, turn) whose completion was masked: they lose their tokens everywhere."""


def kind_of(path: Path, data: bytes) -> str:
    """What the file is, in a word for the report."""
    if data[:4] == PARQUET:
        return "table"
    if data[:2] == GZIP or data[:4] == ZIP:
        return "archive"
    if path.suffix in (".json", ".jsonl"):
        return "records"
    return "text" if _as_text(data) is not None else "binary"


def masked(path: Path, data: bytes, context: Context) -> bytes | None:
    """New bytes of the file, None where nothing is to change. StoreError where a file that claims
    to be a table or an archive cannot be read."""
    try:
        new = _by_kind(path, data, context)
    except (pa.ArrowException, zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
        raise StoreError(f"{path} cannot be read, so nothing is known of it: {error}") from error
    return None if new == data else new


def _by_kind(path: Path, data: bytes, context: Context) -> bytes:
    kind = kind_of(path, data)
    if kind == "table":
        return _masked_table(data, context)
    if kind == "archive":
        return _masked_archive(path, data, context)
    text = _as_text(data)
    if text is None:
        wide = data.decode("utf-8", "surrogateescape")
        return context.needle.mask(wide).encode("utf-8", "surrogateescape")
    if path.suffix == ".json":
        return _masked_json(text, context, 2).encode()
    if path.suffix == ".jsonl":
        lines = text.splitlines(keepends=True)
        return "".join(_masked_json(line, context, None) for line in lines).encode()
    return context.needle.mask_source(text).encode()


def _as_text(data: bytes) -> str | None:
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _masked_json(text: str, context: Context, indent: int | None) -> str:
    """Strings are masked; the spelling stays where it can, and numbers stay numbers."""
    try:
        value = json.loads(text)
    except ValueError:
        return context.needle.mask_source(text)
    wanted = mask_strings(value, context.needle, context.renames)
    if wanted == value:
        return text
    simple = context.needle.mask_source(text)
    try:
        if json.loads(simple) == wanted:
            return simple
    except ValueError:
        pass  # it would have masked a number: the strings alone, then
    end = "\n" if text.endswith("\n") else ""
    return json.dumps(wanted, ensure_ascii=False, indent=indent) + end


def _masked_table(data: bytes, context: Context) -> bytes:
    source = pq.ParquetFile(io.BytesIO(data))
    schema = source.schema_arrow
    groups, is_changed = [], False
    for number in range(source.num_row_groups):
        rows = source.read_row_group(number).to_pylist()
        new = [_masked_row(row, context) for row in rows]
        is_changed = is_changed or new != rows
        groups.append(new)
    if not is_changed:
        return data
    out = io.BytesIO()
    used = source.metadata.row_group(0).column(0).compression
    compression = "none" if used == "UNCOMPRESSED" else used
    with pq.ParquetWriter(out, schema, compression=compression) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return out.getvalue()


def _masked_row(row: dict[str, Any], context: Context) -> dict[str, Any]:
    new: dict[str, Any] = mask_strings(row, context.needle, context.renames)
    place = (row.get("episode"), row.get("step"), row.get("turn"))
    is_forgotten = place in context.turns or new.get("completion") != row.get("completion")
    if is_forgotten and new.get("token_ids") is not None:
        new["token_ids"] = None
        new["logprobs"] = None
    if is_forgotten and new.get("is_selected"):
        new.update(is_selected=False, reason=FORGOTTEN)
    return new


def _masked_archive(path: Path, data: bytes, context: Context) -> bytes:
    if data[:2] == GZIP:
        inner = gzip.decompress(data)
        new = masked(path.with_suffix(""), inner, context)
        return data if new is None else gzip.compress(new, mtime=0)
    out = io.BytesIO()
    is_changed = False
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            inner = source.read(info)
            new = masked(Path(info.filename), inner, context)
            is_changed = is_changed or new is not None
            target.writestr(info, inner if new is None else new)
    return out.getvalue() if is_changed else data
