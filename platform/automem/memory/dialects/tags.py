r"""The paper's tags: `<|APPEND|>file|text<|END|>`, read generously and printed canonically.

Read: any case, bars dropped (`<APPEND>`, `<|APPEND>`), spaces inside a tag, `</APPEND>` as an end,
tags in code fences, prose around them. `parse(print(value))` gives `value` back: a backslash before
`|`, `<`, `\` or a white space makes that character an ordinary one, and nothing else; the last
field of most operations may hold bare bars.

Where an operation ends that is not closed: at the next tag. It is accepted where nothing can be
missing and refused where text may be torn or swallowed (`_unclosed`). In the body of a tag written
with bars, a word in angle brackets without bars (`<done>`, `<b>`) counts as a tag only where a line
begins with it: a note that mentions a tag must not become an action.

Not covered: the sense of a file name or number of lines beyond its form; that is the executor's.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from automem.memory.dialects.base import Commit, Done, Item, Malformed, Reply, ToolCallLike, Value
from automem.memory.dialects.commit import read_commit
from automem.memory.dialects.results import results_message
from automem.memory.ops import (
    OPS,
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
    List,
    OpResult,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
    Write,
)

END = "<|END|>"

_FIELDS: dict[str, tuple[str, ...]] = {
    "READ": ("file",),
    "SEARCH": ("file", "keyword"),
    "TAIL": ("file", "N"),
    "COUNT": ("file", "keyword"),
    "LIST": (),
    "APPEND": ("file", "text"),
    "WRITE": ("file", "text"),
    "CREATE": ("file",),
    "UPSERT": ("file", "key", "text"),
    "REPLACE": ("file", "old", "new"),
    "DELETE": ("file",),
    "DONE": (),
    "ACTION": ("action",),
}
"""Fields of each tag, in order, named as the model is told them."""

_ONE_LINE = frozenset({"READ", "SEARCH", "TAIL", "COUNT", "CREATE", "DELETE", "ACTION"})
"""Their fields never need a second line: unclosed, they end with their first."""

_TEXT_END = frozenset({"END", "IM_END", "EOT_ID", "ENDOFTEXT", "EOM_ID", "END_OF_TURN"})
"""Ends of a body. All but END are chat templates' own marks that some servers leave in the text."""

# Every repetition is bounded or possessive: a model's text must not make matching quadratic.
_TAG = re.compile(r"<(\|?)[ \t]{0,3}(/?)[ \t]{0,3}([A-Za-z][A-Za-z_]{1,15})[ \t]{0,3}(\|?)>")
_TAG_START = re.compile(r"<(?=\|?[ \t]{0,3}/?[ \t]{0,3}[A-Za-z]|\Z)")
"""At the end of a field too: the bar and the field after it could complete a tag."""
_ESCAPED = re.compile(r"\\([|<\\\s])")
_BAR = re.compile(r"((?:[^\\|]++|\\.)*+)\|", re.DOTALL)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Tag:
    """One tag as it stands in the text."""

    name: str
    is_end: bool
    is_barred: bool
    is_upper: bool
    start: int
    end: int


class TagsDialect:
    """See the module's docstring."""

    name = "tags"

    def parse(self, text: str, tool_calls: Sequence[ToolCallLike] = ()) -> list[Item]:
        """The turn's items in text order; native tool calls are not this dialect's."""
        items: list[Item] = []
        tags = [_tag(match) for match in _TAG.finditer(text) if not _is_escaped(text, match)]
        position = 0
        while position < len(tags):
            opening = tags[position]
            position += 1
            if opening.is_end:
                continue
            if opening.name not in _FIELDS:
                if (malformed := _unknown(opening)) is not None:
                    items.append(Item(malformed, opening.start, opening.end))
                continue
            while position < len(tags) and not _ends_body(opening, tags[position], text):
                position += 1
            closing = tags[position] if position < len(tags) else None
            item = _item(text, opening, closing)
            if item is None:
                continue
            if closing is not None and closing.is_end and item.end == closing.end:
                position += 1
            items.append(item)
        return items

    def print(self, value: AnyOp | Commit | Done) -> str:
        """The canonical spelling."""
        match value:
            case Done():
                return "<|DONE|>"
            case Commit(action):
                return f"<|ACTION|>{_escape(action)}{END}"
            case Tail(file, lines):
                fields = [_escape(file, bars=True), str(lines)]
            case Read(file) | Create(file) | Delete(file):
                fields = [_escape(file, bars=True)]
            case List():
                fields = []
            case Search(file, last) | Count(file, last) | Append(file, last) | Write(file, last):
                fields = [_escape(file, bars=True), _escape(last)]
            case Upsert(file, key, last):
                fields = [_escape(file, bars=True), _escape(key, bars=True), _escape(last)]
            case Replace(file, old, new):
                fields = [_escape(field, bars=True) for field in (file, old, new)]
        return f"<|{value.name}|>{'|'.join(fields)}{END}"

    def answer(self, done: Iterable[tuple[Item, OpResult]]) -> list[Reply]:
        """One user message with the results of the turn."""
        return results_message(done)

    def tool_schemas(self, vocabulary: Sequence[str], commits: bool) -> tuple[dict[str, Any], ...]:
        """None: tags are plain text."""
        return ()


def fields_of(name: str) -> tuple[str, ...]:
    """The fields of a tag, in order, named as the model is told them."""
    return _FIELDS[name]


def form(name: str) -> str:
    """How a tag is written, as the model is told: `<|TAIL|>file|N<|END|>`."""
    if name == "DONE":
        return "<|DONE|>"
    return f"<|{name}|>{'|'.join(_FIELDS[name])}{END}"


# Finding tags


def _tag(match: re.Match[str]) -> _Tag:
    left, slash, written, right = match.groups()
    name = written.upper()
    return _Tag(
        name=name,
        is_end=bool(slash) or name in _TEXT_END,
        is_barred=bool(left or right),
        is_upper=written == name,
        start=match.start(),
        end=match.end(),
    )


def _is_escaped(text: str, match: re.Match[str]) -> bool:
    """Whether an odd number of backslashes stands before the tag."""
    before = match.start()
    while before > 0 and text[before - 1] == "\\":
        before -= 1
    return (match.start() - before) % 2 == 1


def _unknown(tag: _Tag) -> Malformed | None:
    """What to say to a tag of no known name; nothing to other markup (`<table>`, `<|think|>`)."""
    cutoff = 0.6 if tag.is_barred else 0.75
    near = difflib.get_close_matches(tag.name, _FIELDS, n=1, cutoff=cutoff)
    if near and (tag.is_barred or tag.is_upper):
        return Malformed(f"there is no <|{tag.name}|>; did you mean {form(near[0])}?")
    if tag.is_barred and tag.is_upper:
        return Malformed(f"there is no <|{tag.name}|>; there are {', '.join(_FIELDS)}")
    return None


def _ends_body(opening: _Tag, tag: _Tag, text: str) -> bool:
    """Whether `tag` ends the body that `opening` began."""
    if tag.name in _TEXT_END:
        return True
    if tag.is_end:
        return tag.name == opening.name
    if tag.is_barred:
        return True
    if tag.name not in _FIELDS:
        return False
    return not opening.is_barred or _begins_line(text, tag.start, opening.end)


def _begins_line(text: str, position: int, start: int) -> bool:
    """Whether only spaces stand between `position` and its line's beginning (or `start`)."""
    while position > start and text[position - 1] in " \t":
        position -= 1
    return position == start or text[position - 1] == "\n"


# Reading one operation


def _item(text: str, opening: _Tag, closing: _Tag | None) -> Item | None:
    """The operation that begins at `opening`; None for an echoed tag with nothing in it."""
    is_closed = closing is not None and closing.is_end
    stop = closing.start if closing is not None else len(text)
    body = text[opening.end : stop]
    if not _FIELDS[opening.name]:
        # LIST and DONE have no fields: what follows is prose, a stray END belongs to them.
        end = closing.end if closing is not None and is_closed else opening.end
        value: Value = List() if opening.name == "LIST" else Done()
        return Item(value, opening.start, end)
    if is_closed and closing is not None:
        return Item(_value(opening.name, body), opening.start, closing.end)
    if opening.name == "ACTION" and closing is not None and closing.name == "ACTION":
        # `<|ACTION|><action><|END|>`: the second is the placeholder of the first.
        return None if not body.strip() else _unclosed(opening, body, is_last=False)
    return _unclosed(opening, body, is_last=closing is None)


def _unclosed(opening: _Tag, body: str, is_last: bool) -> Item:
    """An operation without its END: accepted where nothing can be missing or swallowed.

    One line is all that most operations need. A text of several lines may hold prose that was not
    meant, and a WRITE or REPLACE at the end of a turn may be torn: those are asked for again."""
    body = _without_fence(body)
    if opening.name in _ONE_LINE:
        lead = len(body) - len(body.lstrip())
        body = body[:lead] + body[lead:].split("\n", 1)[0]
    end = opening.end + len(body.rstrip())
    if "\n" in body.strip() or (is_last and opening.name in ("WRITE", "REPLACE")):
        message = f"{opening.name} was not closed; write {form(opening.name)}"
        return Item(Malformed(message), opening.start, end)
    return Item(_value(opening.name, body), opening.start, end)


def _without_fence(body: str) -> str:
    """`body` without the end of a code fence around its operation."""
    lines = body.split("\n")
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("```")):
        lines.pop()
    body = "\n".join(lines).rstrip()
    return body[:-1] if body.endswith("`") and body.count("`") % 2 == 1 else body


def _value(name: str, body: str) -> Value:
    """The operation in a body, or what is wrong with it."""
    wrong = Malformed(f"{name} is written {form(name)}")
    if name == "ACTION":
        return read_commit(body, _unescape(body))
    fields = _split(body, len(_FIELDS[name]), exact=name in ("READ", "CREATE", "DELETE", "REPLACE"))
    if fields is None or not fields[0]:
        return wrong
    if name == "TAIL":
        if _NUMBER.fullmatch(fields[1]) is None:
            return Malformed(f"TAIL needs a number of lines, 0 or more: {form(name)}")
        return Tail(fields[0], int(fields[1]))
    op: AnyOp = OPS[name](*fields)  # type: ignore[assignment]
    return op


def _split(body: str, count: int, exact: bool) -> list[str] | None:
    """The body's fields; None where there are too few, or (`exact`) too many."""
    fields: list[str] = []
    position = 0
    while len(fields) < count - 1 or exact:
        match = _BAR.match(body, position)
        if match is None:
            break
        fields.append(match.group(1))
        position = match.end()
    fields.append(body[position:])
    return [_unescape(field) for field in fields] if len(fields) == count else None


# Escapes


def _escape(text: str, bars: bool = False) -> str:
    r"""`text` so that `_unescape` gives it back and no tag begins in it."""
    escaped = re.sub(r"\\(?=[|<\\\s]|\Z)", r"\\\\", text)
    escaped = _TAG_START.sub(r"\\<", escaped)
    if bars:
        escaped = escaped.replace("|", "\\|")
    return _escape_margins(escaped)


def _escape_margins(text: str) -> str:
    """White space at both ends marked as meant."""
    core = text.strip()
    if not core:
        return "".join(f"\\{space}" for space in text)
    start = text.index(core)
    before, after = text[:start], text[start + len(core) :]
    return "".join([*(f"\\{c}" for c in before), core, *(f"\\{c}" for c in after)])


def _unescape(field: str) -> str:
    """The field's text: white space around it dropped unless escaped, escapes resolved."""
    field = field.lstrip()
    stripped = field.rstrip()
    if len(stripped) < len(field):
        backslashes = len(stripped) - len(stripped.rstrip("\\"))
        if backslashes % 2 == 1:
            stripped += field[len(stripped)]
    # An escaped space may be followed by more: those are each escaped, or dropped.
    return _ESCAPED.sub(r"\1", stripped)
