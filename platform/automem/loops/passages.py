"""The texts of a scaffold, piece by piece: what a revision added, and a scaffold without some.

A passage is the smallest piece that can say something by itself: a file's purpose, a line of its
initial content, a pruning rule, a notice with its condition, a line of a template or of hooks.py.
Promise: taking passages out leaves everything else to the byte, as far as YAML lets it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from automem.agent.scaffold import HOOKS
from automem.agent.scaffold_files import SCHEMA
from automem.agent.schema import FileSchema, Notice, PruneRule, ScaffoldSchema
from automem.agent.schema_file import SchemaFile
from automem.errors import ScaffoldError
from automem.loops.reviewers.edits import Edit, apply, file_of
from automem.loops.reviewers.materials import as_folder, loaded


class Passage(msgspec.Struct, frozen=True):
    """One piece of text and where it stands."""

    where: str
    """`scaffold.yaml map.txt purpose`, `plan.j2`."""
    text: str
    """As a reader would say it; what tells two passages of one place apart."""
    acts: bool = False
    """A program acts on it (a condition, a pattern), whatever a model makes of its words."""


def passages(files: Mapping[str, str]) -> list[Passage]:
    """Every passage of a scaffold; ScaffoldError where its scaffold.yaml is none."""
    return [*_of_schema(_schema_of(files)), *_of_sources(files)]


def added(old: Mapping[str, str], new: Mapping[str, str]) -> list[Passage]:
    """The passages of `new` that `old` has not, in their order."""
    before = set(passages(old))
    return [passage for passage in passages(new) if passage not in before]


def without(files: Mapping[str, str], gone: Iterable[Passage]) -> dict[str, str]:
    """The scaffold without these passages; ScaffoldError where what is left does not load."""
    taken = list(gone)
    result = dict(files)
    schema = _schema_of(files)
    if any(passage.where.startswith(SCHEMA) for passage in taken):
        edit = Edit(kind="", target="", title="", why="", promise=0, change=_taking(taken, schema))
        result = apply(edit, result)
    for name in [name for name in result if name != SCHEMA]:
        texts = {passage.text for passage in taken if passage.where == name}
        if texts:
            lines = result[name].splitlines(keepends=True)
            result[name] = "".join(line for line in lines if line.strip() not in texts)
    if not result.get(HOOKS, "").strip():
        result.pop(HOOKS, None)
    try:
        loaded(result)
    except ScaffoldError as error:
        raise ScaffoldError(f"without what was taken out it does not load: {error}") from error
    return result


def _schema_of(files: Mapping[str, str]) -> ScaffoldSchema:
    """The schema alone: no template is compiled or rendered for it."""
    with as_folder(files) as folder:
        return SchemaFile(folder / SCHEMA).schema()


def _of_schema(schema: ScaffoldSchema) -> Iterator[Passage]:
    for file in schema.files:
        if file.purpose:
            yield Passage(_place(file, "purpose"), file.purpose)
        for line in file.initial.splitlines():
            if line.strip():
                yield Passage(_place(file, "initial"), line.strip())
        if file.key:
            yield Passage(_place(file, "key"), f"keys are {file.key}", acts=True)
        for rule in file.drop:
            yield _of_rule(file, rule)
    for notice in schema.notices:
        yield _of_notice(notice)


def _of_rule(file: FileSchema, rule: PruneRule) -> Passage:
    text = f"once there is {rule.seen!r}, lines with {rule.drop} are of no more use"
    return Passage(_place(file, "drop"), text, acts=True)


def _of_notice(notice: Notice) -> Passage:
    text = f"when {notice.when}: {notice.text}" if notice.text else f"when {notice.when}"
    return Passage(f"{SCHEMA} notices", text, acts=True)


def _of_sources(files: Mapping[str, str]) -> Iterator[Passage]:
    for name, source in files.items():
        if name != SCHEMA:
            for line in source.splitlines():
                if line.strip():
                    yield Passage(name, line.strip(), acts=name == HOOKS)


def _place(file: FileSchema, what: str) -> str:
    return f"{SCHEMA} {file.name} {what}"


def _taking(gone: Sequence[Passage], schema: ScaffoldSchema) -> Callable[[dict[str, Any]], None]:
    """A change of scaffold.yaml's data that takes these passages out."""
    taken = set(gone)

    def change(data: dict[str, Any]) -> None:
        for file in schema.files:
            entry = file_of(data, file.name)
            if Passage(_place(file, "purpose"), file.purpose) in taken:
                entry.pop("purpose")
            if any(p.where == _place(file, "key") for p in taken):
                entry.pop("key", None)
            kept = [
                line
                for line in file.initial.splitlines(keepends=True)
                if Passage(_place(file, "initial"), line.strip()) not in taken
            ]
            if "".join(kept) != file.initial:
                entry["initial"] = "".join(kept)
            _delete(entry, "drop", [_of_rule(file, rule) in taken for rule in file.drop])
        _delete(data, "notices", [_of_notice(notice) in taken for notice in schema.notices])

    return change


def _delete(entry: dict[str, Any], key: str, goes: Sequence[bool]) -> None:
    """Delete items of a list; the key, too, where none is left."""
    if any(goes):
        for index in reversed(range(len(goes))):
            if goes[index]:
                del entry[key][index]
        if not entry[key]:
            del entry[key]
