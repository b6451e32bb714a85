"""The texts of a scaffold, piece by piece: what a revision added, and a scaffold without some.

A passage is the smallest piece that can say something by itself: a file's name, its purpose, a line
of its initial content, a pruning rule, a notice with its condition, a line of a template or of
hooks.py. Promise: taking passages out puts back what they had replaced and leaves everything else
to the byte, as far as YAML lets it. What an edited line had replaced is told by its place: within a
block of changed lines, those come back that no line which stays is an edit of.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeVar

import msgspec
import yaml

from automem.agent.scaffold import HOOKS
from automem.agent.scaffold_files import SCHEMA
from automem.agent.schema import FileSchema, Notice, PruneRule, ScaffoldSchema
from automem.agent.schema_file import SchemaFile
from automem.errors import ScaffoldError
from automem.loops.reviewers.edits import Edit, apply, file_of
from automem.loops.reviewers.materials import as_folder, loaded

NAMES = f"{SCHEMA} names"
"""Where the names of files stand."""


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


def without(
    files: Mapping[str, str], gone: Iterable[Passage], before: Sequence[Mapping[str, str]] = ()
) -> dict[str, str]:
    """The scaffold without these passages; ScaffoldError where what is left does not load.
    `before`: the versions that it grew out of, its parent first, for what they had in those places.
    A file whose name is one of them is renamed, everywhere."""
    taken = frozenset(gone)
    result = dict(files)
    for parent in before:
        result = _put_back(result, taken, parent)
    if not before:
        result = _put_back(result, taken, {})
    names = {p for p in taken if p.where == NAMES} - set(passages(before[-1]) if before else ())
    result = _renamed(result, [passage.text for passage in names])
    if not result.get(HOOKS, "").strip():
        result.pop(HOOKS, None)
    try:
        loaded(result)
    except ScaffoldError as error:
        raise ScaffoldError(f"without what was taken out it does not load: {error}") from error
    return result


def _put_back(
    files: Mapping[str, str], taken: frozenset[Passage], parent: Mapping[str, str]
) -> dict[str, str]:
    """What `taken` names and the parent has not is as it was in the parent."""
    result = dict(files)
    schema = _schema_of(files)
    if any(passage.where.startswith(SCHEMA) for passage in taken):
        change = _taking(taken, schema, parent)
        edit = Edit(kind="", target="", title="", why="", promise=0, change=change)
        result = apply(edit, result)
    for name in [name for name in result if name != SCHEMA]:
        texts = {passage.text for passage in taken if passage.where == name}
        old, new = (text.splitlines(keepends=True) for text in (parent.get(name, ""), files[name]))
        lines = _restored(old, new, [line.strip() in texts for line in new], str.strip)
        result[name] = "".join(lines)
    return result


Piece = TypeVar("Piece")


def _restored(
    old: Sequence[Piece],
    new: Sequence[Piece],
    goes: Sequence[bool],
    key: Callable[[Piece], Hashable],
) -> list[Piece]:
    """`new` with what goes replaced by what stood there in `old`; what `old` has stays."""
    match = SequenceMatcher(None, [key(p) for p in old], [key(p) for p in new], autojunk=False)
    result: list[Piece] = []
    for tag, a, b, c, d in match.get_opcodes():
        if tag == "equal" or not any(goes[c:d]):
            result += new[c:d]
            continue
        kept = [piece for piece, is_gone in zip(new[c:d], goes[c:d], strict=True) if not is_gone]
        back = [piece for piece in old[a:b] if not any(_is_edit(key(piece), key(k)) for k in kept)]
        first = next(index for index in range(c, d) if goes[index])
        result += [*new[c:first], *back, *kept[first - c :]]
    return result


def _is_edit(old: Hashable, new: Hashable) -> bool:
    """Whether half of the old words are in the new text."""
    words = str(old).lower().split()
    return 2 * sum(word in str(new).lower() for word in words) >= len(words)


def _renamed(files: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The scaffold with names that say nothing instead of these, in all its files."""
    result = dict(files)
    for number, name in enumerate(sorted(set(names)), 1):
        plain = f"file_{number}.txt"
        while any(plain in text for text in result.values()):
            plain = f"_{plain}"
        whole = re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])")
        result = {file: whole.sub(plain, text) for file, text in result.items()}
    return result


def _schema_of(files: Mapping[str, str]) -> ScaffoldSchema:
    """The schema alone: no template is compiled or rendered for it."""
    with as_folder(files) as folder:
        return SchemaFile(folder / SCHEMA).schema()


def _of_schema(schema: ScaffoldSchema) -> Iterator[Passage]:
    for file in schema.files:
        yield Passage(NAMES, file.name)
        if file.purpose:
            yield Passage(_place(file, "purpose"), file.purpose)
        for line in file.initial.splitlines():
            if line.strip():
                yield Passage(_place(file, "initial"), line.strip())
        if file.key:
            yield _of_key(file)
        for rule in file.drop:
            yield _of_rule(file, rule)
    for notice in schema.notices:
        yield _of_notice(notice)


def _of_key(file: FileSchema) -> Passage:
    return Passage(_place(file, "key"), f"keys are {file.key}", acts=True)


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


def _taking(
    taken: frozenset[Passage], schema: ScaffoldSchema, parent: Mapping[str, str]
) -> Callable[[dict[str, Any]], None]:
    """A change of scaffold.yaml's data that puts back what these passages had replaced."""
    old = _schema_of(parent) if parent else None
    data_before: dict[str, Any] = yaml.safe_load(parent[SCHEMA]) if parent else {}
    old_files = {file.name: file for file in (old.files if old else ())}

    def change(data: dict[str, Any]) -> None:
        for file in schema.files:
            entry, before = file_of(data, file.name), old_files.get(file.name)
            if Passage(_place(file, "purpose"), file.purpose) in taken:
                _set(entry, "purpose", before.purpose if before else "")
            if file.key and any(p == _of_key(file) for p in taken):
                _set(entry, "key", before.key if before else "")
            new = file.initial.splitlines(keepends=True)
            goes = [Passage(_place(file, "initial"), line.strip()) in taken for line in new]
            lines = before.initial.splitlines(keepends=True) if before else []
            if any(goes):
                _set(entry, "initial", "".join(_restored(lines, new, goes, str.strip)))
            rules = file_of(data_before, file.name).get("drop") or [] if before else []
            texts = [_of_rule(file, rule).text for rule in (before.drop if before else ())]
            _replace(
                entry, "drop", [_of_rule(file, rule) for rule in file.drop], taken, rules, texts
            )
        texts = [_of_notice(notice).text for notice in (old.notices if old else ())]
        notices = data_before.get("notices") or []
        _replace(data, "notices", [_of_notice(n) for n in schema.notices], taken, notices, texts)

    return change


def _set(entry: dict[str, Any], key: str, value: str) -> None:
    """A key that is left out where it is empty."""
    if value:
        entry[key] = value
    else:
        entry.pop(key, None)


def _replace(
    entry: dict[str, Any],
    key: str,
    passages: Sequence[Passage],
    taken: frozenset[Passage],
    old: Sequence[Any],
    texts: Sequence[str],
) -> None:
    """Items of a list that are taken, replaced by those of the parent; the key goes, too, where
    none is left. `texts`: how the parent's read."""
    goes = [passage in taken for passage in passages]
    if not any(goes):
        return
    before = list(zip(texts, old, strict=True))
    now = list(zip([passage.text for passage in passages], entry[key], strict=True))
    items = [item for _, item in _restored(before, now, goes, lambda pair: pair[0])]
    entry[key][:] = items
    if not items:
        del entry[key]
