"""What the types of a scaffold cannot say: ranges, names, patterns, conditions.

One place that decides whether a schema can be used; each problem names the key it is about.
"""

from collections.abc import Iterator

from automem.agent.expressions import ExpressionError
from automem.agent.notices import CompiledNotice
from automem.agent.patterns import Pattern, PatternError, check_names
from automem.agent.schema import FileKind, FileSchema, RoutineSchema, ScaffoldSchema
from automem.agent.schema_file import Key
from automem.memory.execute import clean_text
from automem.memory.names import OpRefused, check_name
from automem.memory.ops import OPS
from automem.suggest import did_you_mean
from automem.trace.events import Routine

Problem = tuple[Key, str]

_ROUTINES = tuple(routine.value for routine in Routine)
_RANGES = {
    "commit_turns": 20,
    "ops_per_turn": 256,
    "result_tokens": 65_536,
    "result_lines": 100_000,
    "max_files": 1_000,
    "max_file_bytes": 64_000_000,
    "max_total_bytes": 256_000_000,
}
"""The most of each, the least being 1: a stranger's scaffold may not ask for the whole machine."""
_MOST_TURNS = 100
_MOST_NOTICES = 64
CHECKLIST_MARKS = ("[ ] ", "[x] ")
"""How an item of a checklist begins."""


def problems(schema: ScaffoldSchema, has_parser: bool) -> Iterator[Problem]:
    """Everything that is wrong, in the order of the file."""
    if not schema.name.strip() or any(sign in schema.name for sign in "@/\\\n"):
        yield ("name",), "expected a plain name, such as v0"
    names = tuple(file.name for file in schema.files)
    for index, file in enumerate(schema.files):
        for key, message in _file_problems(file):
            yield ("files", index, *key), message
        if len(file.initial.encode()) > schema.max_file_bytes:
            yield (
                ("files", index, "initial"),
                f"longer than max_file_bytes, {schema.max_file_bytes}",
            )
        if file.name in names[:index]:
            yield ("files", index, "name"), f"two files of the same name {file.name!r}"
    if len(names) > schema.max_files:
        yield ("files",), f"{len(names)} files are declared and max_files is {schema.max_files}"
    for routine in _ROUTINES:
        for key, message in _routine_problems(getattr(schema, routine)):
            yield (routine, *key), message
    for name, most in _RANGES.items():
        if not 1 <= getattr(schema, name) <= most:
            yield (name,), f"must be from 1 to {most}, got {getattr(schema, name)}"
    if len(schema.notices) > _MOST_NOTICES:
        yield ("notices",), f"at most {_MOST_NOTICES} notices"
    for index, notice in enumerate(schema.notices):
        yield from _notice_problems(("notices", index), notice.routines, notice.steps)
        try:
            CompiledNotice(notice, names, has_parser)
        except ExpressionError as error:
            yield ("notices", index), str(error)


def _notice_problems(key: Key, routines: tuple[str, ...], steps: int) -> Iterator[Problem]:
    if steps < 1:
        yield (*key, "steps"), f"must be at least 1, got {steps}"
    yield from _unknown_routines((*key, "routines"), routines)


def _unknown_routines(key: Key, routines: tuple[str, ...]) -> Iterator[Problem]:
    for name in routines:
        if name not in _ROUTINES:
            yield key, f"no routine {name!r}; there are {', '.join(_ROUTINES)}"


def _routine_problems(routine: RoutineSchema) -> Iterator[Problem]:
    for index, op in enumerate(routine.ops):
        if op not in OPS:
            guess = did_you_mean(op, OPS)
            yield ("ops", index), f"no operation {op!r}{guess}; there are {', '.join(OPS)}"
    if len(set(routine.ops)) < len(routine.ops):
        yield ("ops",), "an operation is listed twice"
    if not 1 <= routine.max_turns <= _MOST_TURNS:
        yield ("max_turns",), f"must be from 1 to {_MOST_TURNS}, got {routine.max_turns}"
    for op, limit in routine.op_limits.items():
        if op not in routine.ops:
            yield ("op_limits", op), f"{op!r} is not among the ops of this routine"
        if limit < 1:
            yield ("op_limits", op), "must be at least 1; leave the operation out of ops instead"


def _file_problems(file: FileSchema) -> Iterator[Problem]:
    try:
        check_name(file.name)
    except OpRefused as refusal:
        yield ("name",), str(refusal)
    if not file.separator or "\n" in file.separator:
        yield ("separator",), "expected one or more characters on one line"
    if "\n" in file.purpose:
        yield ("purpose",), "expected one line"
    if file.show_last < -1:
        yield ("show_last",), "expected -1 (all), 0 (none) or a number of lines"
    for name in ("keep_last", "keep_bytes"):
        if getattr(file, name) < 0:
            yield (name,), "must be 0 (keep all) or more"
    yield from _unknown_routines(("show_in",), file.show_in)
    try:
        clean_text(file.initial)
    except OpRefused as refusal:
        yield ("initial",), str(refusal)
    yield from _kind_problems(file)
    for index, rule in enumerate(file.drop):
        try:
            check_names(rule.drop, Pattern(rule.seen).names)
            if not rule.drop.strip():
                raise PatternError("`drop` is empty: which lines should go?")
        except PatternError as error:
            yield ("drop", index), str(error)


def _kind_problems(file: FileSchema) -> Iterator[Problem]:
    if file.key and file.kind is not FileKind.KEYED:
        yield ("key",), f"keys are of keyed files; this one is {file.kind}"
    elif file.key:
        try:
            Pattern(file.key)
        except PatternError as error:
            yield ("key",), str(error)
    if file.drop_done and file.kind is not FileKind.CHECKLIST:
        yield ("drop_done",), f"only checklists have items that are done; this one is {file.kind}"
    for line in file.initial.splitlines():
        if message := line_problem(file, line):
            yield ("initial",), message
            return


def line_problem(file: FileSchema, line: str) -> str:
    """What is wrong with a line of this file, given its kind; empty where nothing is."""
    if not line.strip():
        return ""
    if file.kind is FileKind.CHECKLIST and not line.startswith(CHECKLIST_MARKS):
        return f"lines of {file.name} are items: `[ ] text`, or `[x] text` once it is done"
    if file.kind is FileKind.KEYED:
        key, separator, _ = line.partition(file.separator)
        if not separator or not key.strip():
            return f"lines of {file.name} are `key{file.separator}text`"
        if file.key and not Pattern(file.key).fits(key):
            return f"a key of {file.name} has the form {file.key}"
    return ""
