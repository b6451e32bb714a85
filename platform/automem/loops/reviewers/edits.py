"""Edits of a scaffold's files, as a program makes them: data changed in place, the rest untouched.

Promise: comments, order and spelling of what an edit does not touch stay as they are, so that a
diff shows the edit and nothing else. Not covered: whether the result is a good scaffold, or one.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from automem.agent.scaffold_files import SCHEMA

Change: TypeAlias = Callable[[dict[str, Any]], None]
"""Changes the data of scaffold.yaml in place."""


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One structural edit."""

    kind: str
    """Name in the catalogue."""
    target: str
    """What it is about, with its value: `cards.txt 10`."""
    title: str
    """For people: what it does."""
    why: str
    """The figures that speak for it."""
    promise: float
    """0 to 1: how much of what goes wrong it is about."""
    change: Change
    knowledge: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Names the edit in reasons and histories: `show_last cards.txt 10`."""
        return f"{self.kind} {self.target}".strip()


def apply(edit: Edit, files: Mapping[str, str]) -> dict[str, str]:
    """The files with the edit made."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    data = yaml.load(files[SCHEMA])
    edit.change(data)
    out = io.StringIO()
    yaml.dump(data, out)
    return {**files, SCHEMA: out.getvalue()}


def file_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of a memory file."""
    return next(file for file in data["files"] if file["name"] == name)


def set_in_file(name: str, **values: Any) -> Change:
    """Set keys of a file's entry."""

    def change(data: dict[str, Any]) -> None:
        file_of(data, name).update(values)

    return change


def together(*changes: Change) -> Change:
    """One after another."""

    def change(data: dict[str, Any]) -> None:
        for each in changes:
            each(data)

    return change


def set_ops(routine: str, ops: list[str]) -> Change:
    """Make a routine's vocabulary these operations; limits of others go."""

    def change(data: dict[str, Any]) -> None:
        part = data[routine]
        part["ops"] = flow(ops)
        limits = part.get("op_limits") or {}
        for op in [op for op in limits if op not in ops]:
            del limits[op]

    return change


def remove_files(names: list[str]) -> Change:
    """Remove files, and the notices that name one of them."""

    def change(data: dict[str, Any]) -> None:
        for index in reversed(range(len(data["files"]))):
            if data["files"][index]["name"] in names:
                del data["files"][index]
        notices = data.get("notices") or []
        for index in reversed(range(len(notices))):
            said = f"{notices[index].get('when', '')} {notices[index].get('text', '')}"
            if any(f'"{name}"' in said or f"'{name}'" in said for name in names):
                del notices[index]

    return change


def add_to(key: str, value: dict[str, Any]) -> Change:
    """Add an entry to `files` or `notices`."""

    def change(data: dict[str, Any]) -> None:
        if not data.get(key):
            data[key] = CommentedSeq()
        entry = CommentedMap(value)
        entry.fa.set_flow_style()
        data[key].append(entry)

    return change


def flow(items: list[Any]) -> CommentedSeq:
    """A list spelled on one line."""
    found = CommentedSeq(items)
    found.fa.set_flow_style()
    return found
