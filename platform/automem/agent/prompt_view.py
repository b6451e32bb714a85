"""A prompt read back: the sections that the shipped scaffolds render, as data.

For programs that take a model's place (scripted players) and for displays. Text in, data out; it
knows nothing that the prompt does not say. A scaffold that renames its section headers can be
played by a model but not by a scripted player.
"""

from collections.abc import Sequence

import msgspec

from automem.engine.protocol import Message
from automem.memory.ops import OPS
from automem.trace.events import Routine

_HEADERS = ("log", "plan", "action", "observation", "changed", "files", "notice", "results")


class OpShown(msgspec.Struct, frozen=True):
    """One operation and the lines that came back."""

    name: str
    """Operation, or `?` for something malformed."""
    file: str
    argument: str
    lines: tuple[str, ...]


class PromptView(msgspec.Struct):
    """See the module's docstring."""

    routine: Routine = Routine.PLAN
    wants_commit: bool = False
    """The hand-over message was given: answer with a game action."""
    action: str = ""
    observation: str = ""
    changed: bool = True
    files: dict[str, int] = {}
    """Name to number of lines, in the prompt's order."""
    shown: dict[str, list[str]] = {}
    """Lines of memory files that the prompt itself shows."""
    notices: list[str] = []
    results: list[OpShown] = []
    """Everything that operations returned in this routine, in order."""
    turns: int = 0
    """Assistant turns so far in this routine."""
    said: list[str] = []
    """Those turns' texts."""


def read_prompt(messages: Sequence[Message]) -> PromptView:
    """Parse the messages of one routine."""
    view = PromptView()
    for message in messages:
        if message.role == "assistant":
            view.turns += 1
            view.said.append(message.content)
        elif message.role != "system":
            for header, lines in _sections(message.content):
                _take(view, header, lines)
    return view


def _sections(text: str) -> list[tuple[str, list[str]]]:
    """(header without `# `, lines) pairs; text before the first header has header ``."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.split("\n"):
        if line.startswith("# ") and _is_header(line[2:]):
            sections.append((line[2:], []))
        else:
            sections[-1][1].append(line)
    return sections


def _is_header(name: str) -> bool:
    return name in _HEADERS or name in ("commit", "commit now") or name.startswith("memory ")


def _take(view: PromptView, header: str, lines: list[str]) -> None:
    text = "\n".join(lines).strip("\n")
    if header in ("log", "plan"):
        view.routine = Routine(header)
    elif header.startswith("commit"):
        view.wants_commit = True
    elif header == "action":
        view.action = text
    elif header == "observation":
        view.observation = text
    elif header == "changed":
        view.changed = text != "no"
    elif header == "files":
        for line in lines:
            name, _, count = line.rpartition(" ")
            if name and count.isdigit():
                view.files[name] = int(count)
    elif header.startswith("memory "):
        view.shown[header.split()[1]] = [line for line in lines if line]
    elif header == "notice":
        view.notices += [line for line in lines if line]
    elif header == "results":
        view.results += _results(lines)


_OP_NAMES = frozenset([*OPS, "?"])


def _results(lines: list[str]) -> list[OpShown]:
    """Split a results section at its operation headers (`NAME file|argument`)."""
    shown: list[tuple[str, str, str, list[str]]] = []
    for line in lines:
        name, _, rest = line.partition(" ")
        if name in _OP_NAMES and (rest or name in ("LIST", "?")):
            file, _, argument = rest.partition("|")
            shown.append((name, file, argument, []))
        elif shown and line:
            shown[-1][3].append(line)
    return [OpShown(name, file, argument, tuple(body)) for name, file, argument, body in shown]
