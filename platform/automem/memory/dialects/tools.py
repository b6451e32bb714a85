"""Operations as chat tool calls, native or spelled in text:

    <tool_call>
    {"name": "append", "arguments": {"file": "map.txt", "text": "tree at 3,4"}}
    </tool_call>

One tool per operation, named as it is in lower case, plus `commit_action` and `done`. A path under
`/memories/` means the file itself. Numbers may come as text and text as numbers; what else does
not fit is a Malformed item that shows the right form. `parse(print(value))` gives `value` back.

The `memory_20250818` tool, one tool with commands of its own, is in `memory_tool`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from automem.memory.dialects.base import Commit, Done, Item, Malformed, Reply, ToolCallLike, Value
from automem.memory.dialects.commit import read_commit
from automem.memory.dialects.results import results_message
from automem.memory.ops import OPS, AnyOp, OpResult
from automem.suggest import nearest

COMMIT = "commit_action"
DONE = "done"
MEMORY_ROOT = "/memories"

_OPENING = re.compile(r"<\s{0,3}tool_call\s{0,3}>", re.IGNORECASE)
_CLOSING = re.compile(r"<\s{0,3}/\s{0,3}tool_call\s{0,3}>", re.IGNORECASE)
_LEAD = re.compile(r"\s*+(```(json)?\s*+)?")
_TRAIL = re.compile(r"\s*+(```)?\s*+")
_NUMBER = re.compile(r"\s*\d{1,9}\s*", re.ASCII)
_MAX_NUMBER = 999_999_999

_DESCRIPTIONS = {
    "READ": "Show a whole memory file.",
    "SEARCH": 'Show the lines of a memory file that hold a keyword, in any case; file "*" is all.',
    "TAIL": "Show the last lines of a memory file.",
    "COUNT": "Count the lines of a memory file that hold a keyword.",
    "LIST": "List the memory files with their number of lines.",
    "APPEND": "Add text as new lines at the end of a memory file.",
    "WRITE": "Replace the whole content of a memory file.",
    "CREATE": "Make an empty memory file.",
    "UPSERT": "Set the one line that starts with a key: replace it, or add it where it is missing.",
    "REPLACE": "Replace a text that occurs exactly once in a memory file.",
    "DELETE": "Remove a memory file.",
}
_FIELD_DESCRIPTIONS = {
    "file": "name of the file, such as map.txt",
    "keyword": "text to look for",
    "lines": "how many lines",
    "text": "the text to write",
    "key": "what the line starts with",
    "old": "text that is in the file exactly once",
    "new": "text to put in its place",
}


class ToolsDialect:
    """See the module's docstring."""

    name = "tools"

    def parse(self, text: str, tool_calls: Sequence[ToolCallLike] = ()) -> list[Item]:
        """Calls spelled in the text, in its order, then native calls, in theirs."""
        items: list[Item] = []
        position = 0
        while (opening := _OPENING.search(text, position)) is not None:
            value, position = _read_call(text, opening.end())
            items.append(Item(value, opening.start(), position))
        for call in tool_calls:
            value = _native(call)
            items.append(Item(value, len(text), len(text), call.id))
        return items

    def print(self, value: AnyOp | Commit | Done) -> str:
        """The canonical spelling in text."""
        match value:
            case Commit(action):
                name, arguments = COMMIT, {"action": action}
            case Done():
                name, arguments = DONE, {}
            case _:
                name, arguments = value.name.lower(), msgspec.structs.asdict(value)
        call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        return f"<tool_call>\n{call}\n</tool_call>"

    def answer(self, done: Iterable[tuple[Item, OpResult]]) -> list[Reply]:
        """A tool message per native call; one user message for calls spelled in text."""
        pairs = list(done)
        replies = [
            Reply("tool", result.text, item.call_id) for item, result in pairs if item.call_id
        ]
        return replies + results_message(pair for pair in pairs if not pair[0].call_id)

    def tool_schemas(self, vocabulary: Sequence[str], commits: bool) -> tuple[dict[str, Any], ...]:
        """Definitions of the operations in `vocabulary`, and of what ends the routine."""
        tools = [
            _schema(name.lower(), _DESCRIPTIONS[name], _field_schemas(name)) for name in vocabulary
        ]
        if commits:
            action = {"type": "string", "description": "the game action to take"}
            tools.append(_schema(COMMIT, "Take one game action.", {"action": action}))
        else:
            tools.append(_schema(DONE, "Say that nothing is left to record.", {}))
        return tuple(tools)


# Reading calls


def _read_call(text: str, position: int) -> tuple[Value, int]:
    """The call that begins at `position` and where it ends."""
    lead = _LEAD.match(text, position)
    start = lead.end() if lead else position
    try:
        call, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return _broken(), _end_of_broken(text, position)
    value = _call(call.get("name"), call) if isinstance(call, dict) else _broken()
    trail = _TRAIL.match(text, end)
    closing = _CLOSING.match(text, trail.end() if trail else end)
    return value, closing.end() if closing else end


def _end_of_broken(text: str, position: int) -> int:
    """Where a call that is no JSON ends: at its closing tag, but before the next call."""
    following = _OPENING.search(text, position)
    stop = following.start() if following else len(text)
    closing = _CLOSING.search(text, position, stop)
    return closing.end() if closing else stop


def _native(call: ToolCallLike) -> Value:
    try:
        arguments = json.loads(call.arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        return _broken(call.name)
    return _call(call.name, {"arguments": arguments})


def _call(name: object, call: Mapping[str, Any]) -> Value:
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # some models encode twice
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return _broken(name)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return _broken(name)
    known = name.strip().lower()
    if known == DONE:
        return Done()
    if known == COMMIT:
        action = _text(arguments.get("action"))
        return read_commit(action, action) if action is not None else _wrong(known)
    if known.upper() not in OPS:
        return _unknown(known)
    return _operation(known, arguments)


def _operation(name: str, arguments: Mapping[str, Any]) -> Value:
    expected = msgspec.structs.fields(OPS[name.upper()])
    values: dict[str, Any] = {}
    for field in expected:
        given = arguments.get(field.name)
        value = _number(given) if field.type is int else _text(given)
        if value is None:
            return _wrong(name)
        values[field.name] = value
    if isinstance(file := values.get("file"), str):
        values["file"] = file.removeprefix(f"{MEMORY_ROOT}/")
    if set(arguments) - set(values):
        return _wrong(name)
    op: AnyOp = OPS[name.upper()](**values)  # type: ignore[assignment]
    return op


def _text(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
        return None
    return value


def _number(value: object) -> int | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_NUMBER else None


# What to say


def _form(name: str) -> str:
    fields: dict[str, Any] = {}
    if name == COMMIT:
        fields = {"action": "north"}
    elif name != DONE:
        types = msgspec.structs.fields(OPS[name.upper()])
        fields = {field.name: 10 if field.type is int else "..." for field in types}
    return json.dumps({"name": name, "arguments": fields})


def _broken(name: object = None) -> Malformed:
    known = name.lower() if isinstance(name, str) else ""
    example = known if known.upper() in OPS or known in (COMMIT, DONE) else "read"
    return Malformed(f"a tool call is one JSON object, such as {_form(example)}")


def _wrong(name: str) -> Malformed:
    return Malformed(f"{name} is called {_form(name)}")


def _unknown(name: str) -> Malformed:
    tools = [*(op.lower() for op in OPS), COMMIT, DONE]
    near = nearest(name, tools, limit=1)
    if near:
        return Malformed(f"there is no such tool; did you mean {near[0]}: {_form(near[0])}?")
    return Malformed(f"there is no such tool; there are {', '.join(tools)}")


# Schemas


def _schema(name: str, description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": dict(properties),
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }


def _field_schemas(name: str) -> dict[str, Any]:
    return {
        field.name: {
            **({"type": "integer", "minimum": 0} if field.type is int else {"type": "string"}),
            "description": _FIELD_DESCRIPTIONS[field.name],
        }
        for field in msgspec.structs.fields(OPS[name])
    }
