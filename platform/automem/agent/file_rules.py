"""Operations that a file's kind does not allow, refused in words that the model can act on.

One place that says what each kind means for each operation; `FileKind.TEXT` allows everything.
Not covered: what is in a file already.
"""

from collections.abc import Mapping

from automem.agent.schema import FileKind, FileSchema
from automem.agent.schema_check import line_problem
from automem.memory.ops import Append, Create, Delete, Op, Replace, Upsert, Write


def kind_refusal(files: Mapping[str, FileSchema], op: Op) -> str:
    """Why `op` does not go with its file's kind; empty where it does."""
    file = files.get(getattr(op, "file", ""))
    if file is None or file.kind is FileKind.TEXT:
        return ""
    if file.kind is FileKind.LOG and isinstance(op, Write | Create | Replace | Upsert | Delete):
        return f"{file.name} only grows; APPEND adds to it"
    match op:
        case Append(text=text) | Write(text=text):
            lines = text.splitlines()
        case Upsert(key=key, text=text):
            lines = [f"{key}{file.separator}{text}"]
        case _:
            lines = []
    return next(filter(None, (line_problem(file, line) for line in lines)), "")
