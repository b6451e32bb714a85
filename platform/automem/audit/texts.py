"""Which strings are free text: what a world, a model or memory said, and names of files in memory.

These alone are masked. Keys, ids, digests, options, paths and tags of operations are structure:
programs read them, so they stay, and `Masker.kept` counts where they hold the fact. Journals and
the project's tables are known field by field. In other JSON and YAML every value is text but names:
values without a space that stand under a key of `NAMES`, or anywhere among settings. In tables of
others every string is text. Not covered: text that is split over several strings.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from automem.audit.needle import Needle
from automem.memory.ops import OPS
from automem.trace.blobs import is_blob_name
from automem.trace.tables import TABLES

Shape: TypeAlias = str | dict[str, Any] | list[Any] | tuple[Any, ...] | None
"""Where text stands in plain data: in these fields, in each item of a list, at these places of a
pair; None: nowhere."""

TEXT = "text"
"""This string, or every string below, keys left out."""
DIGEST = "digest"
"""The name of a text."""
JSON = "json"
"""A string of JSON, or what should be one: the texts in it."""
FILES = "files"
"""A map whose keys are names of files in memory."""

_EDIT = {"file": TEXT, "inserted": TEXT}
EVENTS: dict[str, Shape] = {
    "episode": {"instruction": TEXT, "fallback_action": TEXT},
    "blob": {"digest": DIGEST, "text": TEXT},
    "observe": {"observation": TEXT, "outcome": {"action": TEXT, "info": TEXT}},
    "turn": {
        "prompt": [(None, TEXT)],
        "completion": TEXT,
        "malformed": TEXT,
        "tool_calls": [{"arguments": JSON}],
    },
    "op": {
        "op": dict.fromkeys(("file", "keyword", "key", "text", "old", "new"), TEXT),
        "result": {"text": TEXT, "lines": FILES},
        "edit": _EDIT,
    },
    "memory": {"edit": _EDIT},
    "tool": {"answer": TEXT, "edits": [_EDIT]},
    "commit": {"action": TEXT, "reasoning": TEXT},
    "failure": {"error": TEXT},
    "end": {"detail": TEXT},
}
"""Kinds of a journal's records; the others hold no text."""

ROWS: dict[str, Shape] = {
    "steps": {"observation": TEXT, "action": TEXT},
    "turns": {"prompt": [{"text": TEXT}], "completion": TEXT, "malformed": TEXT},
    "ops": {
        **dict.fromkeys(("file", "argument", "text", "result"), TEXT),
        "result_lines": [{"file": TEXT}],
        "edit": _EDIT,
    },
    "writes": {"file": TEXT, "text": TEXT},
    "retrievals": {"file": TEXT, "argument": TEXT, "writers": [{"file": TEXT}], "named": TEXT},
    "blobs": {"name": DIGEST, "text": TEXT},
    "episodes": {
        **dict.fromkeys(("task", "instruction", "detail"), TEXT),
        "failures": [{"error": TEXT}],
    },
}
"""The tables of a run."""
_SELECTED: Shape = {"form": TEXT, "detail": TEXT}

NAMES = frozenset(
    (
        *("id", "ids", "episode", "pending_episodes", "run", "world", "policy", "scaffold"),
        *("adapter", "engine", "role", "routine", "source", "op", "status", "cause", "stop"),
        *("kind", "boundary", "finish_reason", "gate", "name", "digest", "dataset", "base_model"),
        *("model", "path", "folder", "url", "storage_url", "host", "parent", "version"),
        *("selector", "weights", "job", "made_by", "command"),
    )
)
"""Keys whose values are names."""
SETTINGS = frozenset(("spec", "config", "settings", "options", "recipe", "target", "agent"))
"""Keys below which all values without a space are options, paths or names."""
_SETTINGS_FILES = re.compile(
    r"(run|\w*config|adapter|card|gate|lease|served|manifest|tokenizer\w*|versions|aliases"
    r"|scaffolds|ledger)\.jsonl?|.*\.ya?ml"
)
_TAG = re.compile(
    rf"<[|/\s]{{0,3}}(?:{'|'.join([*OPS, 'ACTION', 'DONE', 'END'])})[|\s]{{0,3}}>", re.IGNORECASE
)
"""A tag of an operation in what a model said: a resume reads it again."""
_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
"""What is no text in a template."""


@dataclass(slots=True)
class Masker:
    """Masks the text in plain data; nothing is changed in place."""

    needle: Needle
    renames: dict[str, str] = field(default_factory=dict)
    """Old to new names of texts."""
    kept: int = 0
    """Strings of structure that hold the fact."""

    def event(self, plain: dict[str, Any]) -> dict[str, Any]:
        """A journal's record."""
        new: dict[str, Any] = self._shaped(plain, EVENTS.get(plain["kind"]))
        if new["kind"] == "op":
            new["op"] = self._whole_upsert(new["op"])
        return new

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of a Parquet table: one of the project's, known by its columns, or another."""
        new: dict[str, Any] = self._shaped(row, _shape_of(row))
        return self._whole_upsert(new)

    def json(self, value: Any, path: Path) -> Any:
        """What the JSON file `path` holds."""
        return self._free(value, "", bool(_SETTINGS_FILES.fullmatch(path.name)))

    def text(self, value: str) -> str:
        """A text, or the name of one."""
        if is_blob_name(value):
            return self.renames.get(value, value)
        masked = self.needle.mask(value)
        if masked == value:
            return value
        return self._spliced(value, masked, (match.span() for match in _TAG.finditer(value)))

    def name(self, value: str) -> str:
        """A piece of structure, as it is."""
        self.kept += self.needle.is_in(value)
        return value

    def source(self, path: Path, text: str) -> str:
        """A text file: in YAML and templates, code and names stay."""
        spans = sorted(_code(path, text))
        masked = self.needle.mask_source(text)
        if spans and len(masked) != len(text):  # an escape became one mark: places do not agree
            masked = self.needle.mask(text)
        return self._spliced(text, masked, spans)

    def _spliced(self, text: str, masked: str, spans: Iterable[tuple[int, int]]) -> str:
        """The masked text with what stands at these places as it was."""
        parts, end = [], 0
        for start, stop in spans:
            self.kept += masked[start:stop] != text[start:stop]
            parts += [masked[end:start], text[start:stop]]
            end = max(end, stop)
        return "".join([*parts, masked[end:]])

    def _shaped(self, value: Any, shape: Shape) -> Any:
        if shape == DIGEST:
            return self.renames.get(value, value)
        if shape == FILES and isinstance(value, dict):
            return {self.text(name): each for name, each in value.items()}
        if shape == JSON:
            return self._arguments(value)
        if isinstance(value, str):
            return self.text(value) if shape == TEXT else self.name(value)
        if isinstance(value, dict):
            below: Callable[[str], Shape] = (
                shape.get if isinstance(shape, dict) else lambda _: TEXT if shape == TEXT else None
            )
            return {self._key(key): self._shaped(each, below(key)) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(
                self._shaped(each, _item(shape, number)) for number, each in enumerate(value)
            )
        return value

    def _arguments(self, text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return self.text(text)
        new = self._shaped(value, TEXT)
        return text if new == value else json.dumps(new, ensure_ascii=False)

    def _free(self, value: Any, key: str, is_settings: bool) -> Any:
        if isinstance(value, str):
            is_name = (is_settings or key in NAMES or key.startswith("_")) and _is_bare(value)
            return self.name(value) if is_name and not is_blob_name(value) else self.text(value)
        if isinstance(value, list):
            return [self._free(each, key, is_settings) for each in value]
        if isinstance(value, dict):
            new = {
                self._key(each): self._free(below, each, is_settings or each in SETTINGS)
                for each, below in value.items()
            }
            return self._whole_upsert(new)
        return value

    def _key(self, key: Any) -> Any:
        return self.name(key) if isinstance(key, str) else key

    def _whole_upsert(self, op: dict[str, Any]) -> dict[str, Any]:
        """An operation whose key (in tables: its argument) and text make the fact together."""
        if op.get("op") != "UPSERT":
            return op
        name = "key" if "key" in op else "argument"
        key, text = op.get(name), op.get("text")
        if not isinstance(key, str) or not isinstance(text, str):
            return op
        masked = self.needle.mask(f"{key}: {text}")
        return {**op, name: masked[: len(key)], "text": masked[len(key) + 2 :]}


def _is_bare(value: str) -> bool:
    """Whether the value is one word, as names, paths and options are."""
    return len(value.split()) <= 1


def _item(shape: Shape, number: int) -> Shape:
    if isinstance(shape, list):
        return shape[0]
    if isinstance(shape, tuple):
        return shape[number] if number < len(shape) else None
    return TEXT if shape == TEXT else None


def _shape_of(row: dict[str, Any]) -> Shape:
    if "is_selected" in row:
        return _SELECTED
    if "episode" in row:
        for table, columns in TABLES.items():
            if row.keys() <= {column.name for column in columns}:
                return ROWS[table]
    return TEXT


def _code(path: Path, text: str) -> Iterator[tuple[int, int]]:
    """Where a text file holds what is no text."""
    if path.suffix == ".j2":
        yield from (match.span() for match in _CODE.finditer(text))
    if path.suffix in (".yaml", ".yml"):
        try:
            trees: Sequence[yaml.Node] = list(yaml.compose_all(text, yaml.SafeLoader))
        except yaml.YAMLError:
            return
        for tree in trees:
            yield from _names(tree, is_key=False)


def _names(node: yaml.Node | None, is_key: bool) -> Iterator[tuple[int, int]]:
    """Keys of a YAML tree, and its values that are names."""
    if isinstance(node, yaml.ScalarNode):
        if is_key or _is_bare(node.value):
            yield node.start_mark.index, node.end_mark.index
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _names(key, is_key=True)
            yield from _names(value, is_key=False)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _names(each, is_key=False)


__all__ = ["EVENTS", "NAMES", "ROWS", "SETTINGS", "Masker"]
