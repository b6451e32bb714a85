"""`scaffold.yaml` as data: files, operations per routine, limits, pruning rules, notices.

Types only; `automem.agent.schema_check` says what types cannot. A scaffold's version is the hash of
this data, so a field added later is left out of it while it has its default (`as_hashed`): what was
written before the field existed keeps its version.
"""

from enum import StrEnum
from typing import Any

import msgspec


class FileKind(StrEnum):
    """What the lines of a memory file are; operations that break it are refused in words."""

    TEXT = "text"
    """Anything."""
    KEYED = "keyed"
    """`key<separator>text`, one line per key: UPSERT sets it."""
    CHECKLIST = "checklist"
    """`[ ] text`, and `[x] text` once it is done."""
    LOG = "log"
    """Append-only: APPEND adds, nothing changes or removes."""


class PruneRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines of the file that go when the observation says that they are of no more use."""

    seen: str
    """Pattern over each line of the observation: plain text and `{name}` for any one word."""
    drop: str
    """Lines that hold this as whole words go; `{name}` is what the pattern found there."""


class FileSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One memory file as the scaffold defines it."""

    name: str
    purpose: str = ""
    """One line for the model: what belongs here."""
    initial: str = ""
    separator: str = ": "
    """Between key and text of lines written by UPSERT."""
    show_last: int = 0
    """Lines from the end shown in every PLAN; -1 shows the whole file, 0 leaves it to READ."""
    keep_last: int = 0
    """Longest the file may be, in lines: older ones are pruned after each LOG; 0 keeps all."""
    kind: FileKind = FileKind.TEXT
    key: str = ""
    """Keyed files: the form of a key, as in `PruneRule.seen` (`{x},{y}`); empty: any."""
    show_in: tuple[str, ...] = ("plan",)
    """Routines whose prompts show the last lines."""
    keep_bytes: int = 0
    """Longest the file may be, in bytes: the oldest lines go; 0 keeps all."""
    drop_repeated: bool = False
    """Of equal lines (in keyed files: of lines of one key) only the newest stays."""
    drop_done: bool = False
    """Checklists: items that are done go."""
    drop: tuple[PruneRule, ...] = ()


class RoutineSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a routine may do."""

    ops: tuple[str, ...]
    """Vocabulary: names of operations, in the order in which prompts list them."""
    max_turns: int = 10
    """Model calls before the routine is ended (the paper's 10)."""
    op_limits: dict[str, int] = {}
    """How often an operation may be used in one such routine; others are not limited."""


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line put into the prompt when something the agent could see for itself holds."""

    when: str
    """A condition (`automem.agent.expressions`), or one word for a usual one: `unchanged` (the
    observation), `repeated` (the same action), `oscillating` (a, b, a, b)."""
    steps: int = 2
    """With one of the three words: for at least so many steps in a row."""
    text: str = ""
    """The line; `{expression}` is replaced by its value. The three words have a text of their own,
    and `{steps}`."""
    routines: tuple[str, ...] = ("log", "plan")


class ScaffoldSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`scaffold.yaml`."""

    name: str
    files: tuple[FileSchema, ...]
    log: RoutineSchema
    plan: RoutineSchema
    commit_turns: int = 3
    """Gameplay calls after the hand-over before the world's fallback is taken."""
    ops_per_turn: int = 16
    result_tokens: int = 1024
    """Cap of one result, in tokens."""
    result_lines: int = 400
    description: str = ""
    notices: tuple[Notice, ...] = ()
    max_files: int = 32
    max_file_bytes: int = 1_000_000
    max_total_bytes: int = 4_000_000
    defer_commit: bool = False
    """A commit in the same turn as a reading operation waits until the results have been shown."""


_ADDED: dict[type[msgspec.Struct], tuple[str, ...]] = {
    FileSchema: ("kind", "key", "show_in", "keep_bytes", "drop_repeated", "drop_done", "drop"),
    RoutineSchema: ("op_limits",),
    Notice: ("routines",),
    ScaffoldSchema: ("defer_commit",),
}
"""Fields that came after scaffolds had been hashed; see the module's docstring."""


def as_hashed(value: Any) -> Any:
    """The plain data that a scaffold's version is the hash of, in the order of the fields."""
    if isinstance(value, msgspec.Struct):
        added = _ADDED.get(type(value), ())
        return {
            field.name: as_hashed(getattr(value, field.name))
            for field in msgspec.structs.fields(value)
            if not (field.name in added and getattr(value, field.name) == _default(field))
        }
    if isinstance(value, tuple):
        return [as_hashed(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
