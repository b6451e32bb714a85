"""Files of a run that are no journals, with a fact masked: text, JSON, Parquet, archives, the rest.

`masked` gives a file's new bytes, or None where it does not hold the fact. Text is masked in place;
JSON stays JSON; a Parquet file keeps schema, compression and row groups, and a masked completion
loses its token ids; `.gz` and `.zip` files (NumPy's and torch's among them) are opened and packed
again; any other file is searched byte by byte and masked without changing its length. Weights and
tokenizers are left as they are and noted in `Context.kept` where their bytes hold the fact. Not
covered: what is encrypted or compressed in another way, and what weights have learned.
"""

import gzip
import io
import json
import os
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automem.audit.needle import Needle
from automem.audit.texts import Masker
from automem.audit.weights import why_kept
from automem.errors import StoreError

PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"
NAMES_STAY = "names, ids or keys hold it, by which programs find their way: they stay"
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
    if new == data:
        return None
    if beside is None:
        beside = os.listdir(path.parent) if path.parent.is_dir() else ()
    if why := why_kept(path.name, _as_text(data) is not None, beside):
        context.kept[path] = why
        return None
    return new


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
        new = [_masked_row(row, masker, context) for row in rows]
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


def _masked_row(row: dict[str, Any], masker: Masker, context: Context) -> dict[str, Any]:
    new = masker.row(row)
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
