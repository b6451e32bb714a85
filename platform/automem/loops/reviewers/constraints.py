"""The constraints of the method, checked by program: what a revision may not do, whoever wrote it.

- *memory*: memory operations stay in the model's hands. LOG can write and PLAN can read, both
  prompts list the operations, and what files and notices declare as shown is shown.
- *structure*: something else than wording changes (`structure.py`).
- *task*: task behaviour and environment are untouched. The hand-over to the gameplay role is as
  it was; instruction, observation and action reach the routines whole and as they are: templates
  print them and neither test nor change them (conditions belong in notices); observation and
  action are printed outside every block, so nothing can leave them out.
- *timing*: nothing is written before the world has answered. PLAN has no writing operation; LOG
  sees the action and what came of it.
- *hooks*: code only where it is allowed.
- *form*: plain text files of known names and bounded sizes, which load as a scaffold.

Promise: whatever the files hold, an answer comes quickly, with every violation named. Not covered:
whether the revision helps; whether added text is knowledge of the task (`loops.knowledge`).
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import msgspec
from jinja2 import nodes

from automem.agent.scaffold import HOOKS, MAX_SOURCE_BYTES, Scaffold
from automem.agent.scaffold_files import NAMES, SCHEMA
from automem.agent.schema import FileKind, FileSchema, ScaffoldSchema
from automem.agent.schema_file import MAX_BYTES
from automem.errors import ScaffoldError
from automem.loops.reviewers.interface import Rules
from automem.loops.reviewers.materials import loaded
from automem.loops.reviewers.structure import parse, structure_of
from automem.memory.ops import READING

WRITES = frozenset({"APPEND", "WRITE", "UPSERT", "REPLACE"})
"""Operations that put text into a file."""
READS = frozenset({"READ", "SEARCH", "TAIL"})
"""Operations that bring text back."""
_UNTOUCHED = ("commit.j2",)
_GAMEPLAY = ("commit_turns",)
"""Keys of scaffold.yaml that are the gameplay role's."""
_UNASKED = ("action", "observation")
"""What every prompt of a step is given; files and notices there may be none."""
_ADDED_TO_A_LOG = frozenset({"APPEND"})


class Constraint(StrEnum):
    """What was broken; see the module's docstring."""

    FORM = "form"
    MEMORY = "memory"
    STRUCTURE = "structure"
    TASK = "task"
    TIMING = "timing"
    HOOKS = "hooks"


class Violation(msgspec.Struct, frozen=True):
    """One thing that a revision may not do."""

    constraint: Constraint
    where: str
    """File, and key where there is one."""
    message: str

    def __str__(self) -> str:
        return f"{self.constraint}: {self.where}: {self.message}"


def check_revision(
    old: Mapping[str, str], new: Mapping[str, str], rules: Rules | None = None
) -> list[Violation]:
    """Every violation of `new` as a revision of `old`, both by file name; none: play it."""
    found = list(_form(new))
    if found:
        return found
    try:
        before, after = loaded(old), loaded(new)
    except ScaffoldError as error:
        return [Violation(Constraint.FORM, SCHEMA, str(error))]
    found += _hooks(old, new, rules or Rules())
    found += _task(before, after, old, new)
    found += _memory(after.schema)
    found += _timing(after.schema)
    try:
        found += _prompts(before, after)
    except ScaffoldError as error:
        found.append(Violation(Constraint.FORM, "templates", str(error)))
    if _structure(before) == _structure(after):
        found.append(
            Violation(
                Constraint.STRUCTURE,
                SCHEMA,
                "only wording differs: change files, kinds, what is shown or pruned, operations, "
                "limits, notices' conditions, or what templates print",
            )
        )
    return found


def explain(violations: list[Violation]) -> str:
    """As one text, a line for each."""
    return "\n".join(str(violation) for violation in violations)


# Form


def _form(files: Mapping[str, str]) -> Iterator[Violation]:
    if SCHEMA not in files:
        yield Violation(Constraint.FORM, SCHEMA, "is missing")
    for name, text in files.items():
        shown = ascii(name)[:80] if name not in NAMES else name
        if name not in NAMES:
            yield Violation(
                Constraint.FORM, shown, f"is no part of a scaffold; there are {', '.join(NAMES)}"
            )
            continue
        if not isinstance(text, str):
            yield Violation(Constraint.FORM, shown, "is no text")
            continue
        most = MAX_BYTES if name == SCHEMA else MAX_SOURCE_BYTES
        if len(text) > most or len(text.encode(errors="replace")) > most:
            yield Violation(Constraint.FORM, shown, f"has more than {most} bytes; shorten it")
        elif "\0" in text or not _is_unicode(text):
            yield Violation(Constraint.FORM, shown, "is not UTF-8 text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _structure(scaffold: Scaffold) -> Any:
    return structure_of(scaffold.schema, scaffold.sources, scaffold.hooks)


# Hooks, task, memory, timing: what the files say


def _hooks(old: Mapping[str, str], new: Mapping[str, str], rules: Rules) -> Iterator[Violation]:
    has_new = new.get(HOOKS, "").strip() and new.get(HOOKS) != old.get(HOOKS)
    if has_new and not rules.allow_hooks:
        yield Violation(
            Constraint.HOOKS, HOOKS, "code is not allowed here; say it with files and notices"
        )


def _task(
    before: Scaffold, after: Scaffold, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[Violation]:
    for name in _UNTOUCHED:
        if old.get(name, "") != new.get(name, ""):
            yield Violation(
                Constraint.TASK, name, "is the gameplay role's: it stays as it is, to the byte"
            )
    for key in _GAMEPLAY:
        was, now = getattr(before.schema, key), getattr(after.schema, key)
        if was != now:
            yield Violation(
                Constraint.TASK, SCHEMA, f"{key} is the gameplay role's: it stays {was}, not {now}"
            )
    for name, source in after.sources.items():
        yield from _tampering(name, source)


def _tampering(name: str, source: str) -> Iterator[Violation]:
    """Uses of the world's own texts other than printing them whole."""
    tree = parse(name, source)
    caught = {
        id(output)
        for block in tree.find_all(_CATCHING)
        if not isinstance(block, nodes.For) or block.recursive
        for output in block.find_all(nodes.Output)
    }
    printed = {
        id(child)
        for output in tree.find_all(nodes.Output)
        if id(output) not in caught
        for child in output.iter_child_nodes()
    }
    for found in tree.find_all(nodes.Name):
        if found.name not in _WHOLE:
            continue
        if found.ctx != "load" or id(found) not in printed:
            yield Violation(
                Constraint.TASK,
                f"{name}.j2 line {found.lineno}",
                f"{found.name} is printed as it is, {{{{ {found.name} }}}}, and neither tested nor "
                "changed; conditions belong in notices",
            )


_WHOLE = ("observation", "instruction", "action")
_CATCHING = (
    nodes.FilterBlock,
    nodes.AssignBlock,
    nodes.CallBlock,
    nodes.Macro,
    nodes.Block,
    nodes.For,
)
"""What is printed inside these can be changed or tested by the template. A loop only where it is
recursive: `loop(...)` then gives what its body prints."""


def _memory(schema: ScaffoldSchema) -> Iterator[Violation]:
    if not WRITES & set(schema.log.ops):
        yield Violation(
            Constraint.MEMORY, f"{SCHEMA} log.ops", f"LOG needs one of {_listed(WRITES)}"
        )
    if not READS & set(schema.plan.ops):
        yield Violation(
            Constraint.MEMORY, f"{SCHEMA} plan.ops", f"PLAN needs one of {_listed(READS)}"
        )
    if not any(_can_write(file, schema) for file in schema.files):
        yield Violation(Constraint.MEMORY, f"{SCHEMA} files", "LOG can write to none of the files")


def _can_write(file: FileSchema, schema: ScaffoldSchema) -> bool:
    goes = _ADDED_TO_A_LOG if file.kind is FileKind.LOG else WRITES
    return bool(goes & set(schema.log.ops))


def _timing(schema: ScaffoldSchema) -> Iterator[Violation]:
    early = [op for op in schema.plan.ops if op not in READING]
    if early:
        yield Violation(
            Constraint.TIMING,
            f"{SCHEMA} plan.ops",
            f"{', '.join(early)} would write before the world has answered; LOG does it after",
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


# Prompts: what the templates print, tried with marked values


def _prompts(before: Scaffold, after: Scaffold) -> Iterator[Violation]:
    for routine in ("log", "plan"):
        yield from _system(routine, before, after)
        yield from _opening(routine, after)


def _system(routine: str, before: Scaffold, after: Scaffold) -> Iterator[Violation]:
    name = f"{routine}.system"
    instruction, operation = _mark("instruction"), "<op-5182>"
    values = {
        "instruction": instruction,
        "files": msgspec.to_builtins(after.schema.files),
        "operations": [operation],
    }
    text = after.render(name, values)
    if instruction in before.render(name, values) and instruction not in text:
        yield Violation(
            Constraint.TASK, f"{name}.j2", "prints the instruction no more, and the old one did"
        )
    if operation not in text:
        yield Violation(
            Constraint.MEMORY, f"{name}.j2", "does not print the operations (`operations`)"
        )


def _opening(routine: str, after: Scaffold) -> Iterator[Violation]:
    needs = {"observation": Constraint.TIMING if routine == "log" else Constraint.TASK}
    if routine == "log":
        needs["action"] = Constraint.TIMING
    schema = after.schema
    if any(file.show_last and routine in file.show_in for file in schema.files):
        needs["shown"] = Constraint.MEMORY
    if after.hooks or any(routine in notice.routines for notice in schema.notices):
        needs["notices"] = Constraint.MEMORY
    missed = {value for value in _UNASKED if value in needs} - _unconditional(
        routine, after.sources.get(routine, "")
    )
    marks = {value: _mark(value) for value in (*_UNASKED, "shown", "notices")}
    for given in _moments(marks):
        text = after.render(routine, given)
        missed |= {value for value in needs if given[value] and marks[value] not in text}
    for value, constraint in needs.items():
        if value in missed:
            outside = ", outside every block" if value in _UNASKED else ""
            yield Violation(
                constraint, f"{routine}.j2", f"does not always print `{value}` whole{outside}"
            )


def _moments(marks: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What a template can be given: with and without files, shown files and notices."""
    lists = {
        "index": [{"name": "notes.txt", "lines": 1, "bytes": 5}],
        "shown": [{"name": "notes.txt", "text": marks["shown"]}],
        "notices": [marks["notices"]],
    }
    for changed, *full in product((True, False), repeat=1 + len(lists)):
        given: dict[str, Any] = {value: marks[value] for value in _UNASKED}
        for (name, some), is_full in zip(lists.items(), full, strict=True):
            given[name] = some if is_full else []
        yield {**given, "changed": changed}


def _unconditional(name: str, source: str) -> set[str]:
    """What a template prints whatever it is given."""
    printed = [node for node in parse(name, source).body if isinstance(node, nodes.Output)]
    return {
        child.name
        for output in printed
        for child in output.iter_child_nodes()
        if isinstance(child, nodes.Name)
    }


def _mark(value: str) -> str:
    """Long, of several lines, and nothing that a template would hold by itself."""
    return "\n".join(f"{value}-7304 {number:03d} <&> {{{{ }}}}" for number in range(60))
