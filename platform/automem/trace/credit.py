"""From a written line to the action that used it: the rows of `writes` and `retrievals`.

Every line that an operation returned or a prompt showed is traced to its writer. A step's action
*used* a line where the action, or the reasoning before it, names something that the line holds and
the present observation does not. A word that the observation merely lists among others of its kind
(`down 01 02 03`) counts as not in it; one that the operation asked for is no news, nor is a word of
the game's own instruction in an action, nor words that many of the actions or many of the lines
share. This is evidence from words: it misses what was used without being named (where actions come
from a closed list, only reasoning can name anything; `automem_learners.select.attribution` sees
more), and two words can agree by chance.

One pass, a few microseconds per line; state is what stands in memory and the step at hand. Not
covered: progress, which compares episodes (`automem.trace.progress`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from automem.trace.events import OpDone, Role, Routine, Turn
from automem.trace.provenance import Change, Memory, Writer

SHOWN = "SHOWN"
"""What `retrievals` calls lines that a prompt shows unasked."""
RETURNING = frozenset({"READ", "SEARCH", "TAIL"})
COMMON_SHARE = 0.1
"""Words (other than numbers) of more than this share of the actions so far tell nothing."""
FEW_LINES = 3
"""A word that more lines of a retrieval hold (and more than a quarter) singles none of them out."""
LISTED = 3
"""So many like items in a row are a list: to be in it is not to be told of."""

_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")
_WORD_LIST = re.compile(rf"\w+(?:, \w+){{{LISTED},}}")
_SECTION = re.compile(r"^# memory (\S+)\n", re.MULTILINE)
_NEXT_SECTION = re.compile(r"^# ", re.MULTILINE)
_LONG_WORD = 4
"""Shorter words of a reasoning (other than numbers) tell nothing."""


def words(text: str) -> list[str]:
    """Words and numbers, lower case, in order."""
    return _WORD.findall(text.lower())


def singled_out(observation: str) -> set[str]:
    """Words of an observation that it does not merely list among others of their kind."""
    found: set[str] = set()
    for line in _WORD_LIST.sub(" ", observation.lower()).split("\n"):
        run: list[str] = []
        for word in [*_WORD.findall(line), ""]:
            is_alike = bool(run) and len(word) == len(run[-1]) and word.isdigit()
            if not is_alike:
                if len(run) < LISTED:
                    found.update(run)
                run = []
            if word.isdigit():
                run.append(word)
            elif word:
                found.add(word)
    return found


@dataclass(slots=True)
class Retrieval:
    """Lines that came into the context of a turn."""

    step: int
    turn: int
    index: int
    routine: Routine
    role: Role
    op: str
    file: str | None
    argument: str | None
    lines: list[str]
    writers: list[tuple[str, Writer]]
    """File and writer of each line."""
    used: list[int] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Line:
    """What is known of a line that stands in memory."""

    writer: Writer
    file: str
    text: str
    routine: str | None
    repeats: bool
    shown: int = 0
    retrieved: int = 0
    first_retrieved: int | None = None
    used: int = 0
    first_used: int | None = None
    contradicted: int | None = None


class Credit:
    """One episode's lines, retrievals and uses, in the order in which they happen."""

    def __init__(self) -> None:
        self.retrievals: list[Retrieval] = []
        """Of the step at hand."""
        self._lines: dict[tuple[str, Writer], _Line] = {}
        self._files: dict[str, _Heads] = {}
        self._ended: list[tuple[_Line, int, str]] = []
        self._observation = ""
        self._instruction: set[str] = set()
        self._action_words: Counter[str] = Counter()
        self._actions = 0
        self._reasoning_words: Counter[str] = Counter()
        self._reasonings = 0
        self._routine, self._role = Routine.PLAN, Role.MEMORY

    def begin(self, instruction: str) -> None:
        """What the agent was told about the game."""
        self._instruction = {word for word in words(instruction) if not word.isdigit()}

    def observe(self, observation: str) -> None:
        """A step begins."""
        self.retrievals = []
        self._observation = observation

    def open_turn(self, turn: Turn, prompt: Iterable[str], memory: Memory) -> None:
        """A model call begins; `prompt` holds its texts where it opens a routine, else nothing."""
        self._routine, self._role = turn.routine, turn.role
        for text in prompt:
            if "# memory " in text:
                self._note_shown(turn, text, memory)

    def _note_shown(self, turn: Turn, text: str, memory: Memory) -> None:
        for section in _SECTION.finditer(text):
            end = _NEXT_SECTION.search(text, section.end())
            body = text[section.end() : end.start() if end else len(text)].rstrip("\n")
            lines = body.split("\n") if body else []
            file = section[1]
            places = _places(lines, file, memory)
            found = [(line, place) for line, place in zip(lines, places, strict=True) if place]
            self._note(Retrieval(
                turn.step, turn.turn, -1, turn.routine, turn.role, SHOWN, file, None,
                [line for line, _ in found], [(file, place) for _, place in found if place],
            ))  # fmt: skip

    def did(self, event: OpDone, memory: Memory) -> None:
        """An operation was done; call it before `memory` takes its edit."""
        if event.op.name not in RETURNING or not event.result.lines:
            return
        lines, writers = [], []
        for file, numbers in event.result.lines.items():
            for number in numbers:
                writer = memory.writer(file, number)
                if writer is not None:
                    lines.append(memory.line(file, number))
                    writers.append((file, writer))
        self._note(Retrieval(
            event.step, event.turn, event.index, self._routine, self._role, event.op.name,
            getattr(event.op, "file", None), _argument(event), lines, writers,
        ))  # fmt: skip

    def _note(self, retrieval: Retrieval) -> None:
        self.retrievals.append(retrieval)
        for key in retrieval.writers:
            line = self._lines.get(key)
            if line is None:
                continue
            if retrieval.op == SHOWN:
                line.shown += 1
            else:
                line.retrieved += 1
                if line.first_retrieved is None:
                    line.first_retrieved = retrieval.step

    def changed(self, change: Change, step: int, cause: str) -> None:
        """Memory changed: `cause` names the operation, or why the scaffold did it."""
        heads = self._files.setdefault(change.file, _Heads())
        for writer in change.lost:
            line = self._lines.pop((change.file, writer), None)
            if line is not None:
                heads.remove(line)
                self._ended.append((line, step, cause))
        for writer, text in change.new:
            if not text.strip():
                continue
            routine = self._routine.value if writer.turn >= 0 else None
            line = _Line(writer, change.file, text, routine, heads.has(text))
            for older in heads.contradicted_by(text):
                older.contradicted = step if older.contradicted is None else older.contradicted
            before = self._lines.get((change.file, writer))
            if before is not None:  # the scaffold changed this file twice in one step
                self._ended.append((before, step, cause))
            self._lines[change.file, writer] = line
            heads.add(line)

    def commit(self, action: str, reasoning: str = "") -> None:
        """The step's action is known: which of the lines in its context did it use?"""
        said = set(words(action)) - self._instruction
        present: set[str] | None = None
        thought = words(reasoning) if reasoning else []
        for retrieval in self.retrievals:
            if retrieval.routine is not Routine.PLAN or not retrieval.lines:
                continue
            if present is None:
                present = singled_out(self._observation)
            told = present.union(words(retrieval.argument or ""))
            acted = {w for w in said if w not in told and self._is_telling(w)}
            argued = {w for w in thought if w not in told and self._is_thoughtful(w)}
            self._mark(retrieval, acted, argued)
        self._action_words.update(said)
        self._actions += 1
        if thought:
            self._reasoning_words.update(set(thought))
            self._reasonings += 1

    def _is_telling(self, word: str) -> bool:
        count = self._action_words[word]
        return _DIGIT.search(word) is not None or count < 2 or count <= COMMON_SHARE * self._actions

    def _is_thoughtful(self, word: str) -> bool:
        if _DIGIT.search(word):
            return len(word) > 1
        count = self._reasoning_words[word]
        return len(word) >= _LONG_WORD and (count < 2 or count <= COMMON_SHARE * self._reasonings)

    def _mark(self, retrieval: Retrieval, acted: set[str], argued: set[str]) -> None:
        if not acted and not argued:
            return
        held = _held(retrieval.lines, acted | argued)
        spread = Counter(word for found in held for word in found)
        limit = max(FEW_LINES, len(held) // 4)
        for place, found in enumerate(held):
            telling = {word for word in found if spread[word] <= limit}
            by_thought = telling & argued
            is_argued = len(by_thought) > 1 or any(_DIGIT.search(word) for word in by_thought)
            if not telling & acted and not is_argued:
                continue
            retrieval.used.append(place)
            retrieval.named += sorted(telling - set(retrieval.named))
            line = self._lines.get(retrieval.writers[place])
            if line is not None:
                line.used += 1
                line.first_used = retrieval.step if line.first_used is None else line.first_used

    def step_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows that are complete when a step ends (without the column `episode`)."""
        for retrieval in self.retrievals:
            yield "retrievals", _retrieval_row(retrieval)
        self.retrievals = []
        for line, step, cause in self._ended:
            yield "writes", _write_row(line, step, cause)
        self._ended.clear()

    def last_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows of the lines that stand in memory at the end of the episode."""
        yield from self.step_rows()
        for line in self._lines.values():
            yield "writes", _write_row(line, None, None)


class _Heads:
    """The lines of one file by text and by first word, which in many files is a key."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()
        self._by_head: dict[str, list[_Line]] = {}
        self._count = 0

    def has(self, text: str) -> bool:
        return self._texts[text.strip()] > 0

    def add(self, line: _Line) -> None:
        self._texts[line.text.strip()] += 1
        self._by_head.setdefault(_head(line.text), []).append(line)
        self._count += 1

    def remove(self, line: _Line) -> None:
        text, head = line.text.strip(), _head(line.text)
        self._texts[text] -= 1
        if not self._texts[text]:
            del self._texts[text]
        # By identity: two lines may be equal in every field.
        left = [other for other in self._by_head[head] if other is not line]
        if left:
            self._by_head[head] = left
        else:
            del self._by_head[head]
        self._count -= 1

    def contradicted_by(self, text: str) -> list[_Line]:
        """Lines of the same first word that go on differently, where first words are keys: where
        most lines have one of their own."""
        if 2 * len(self._by_head) < self._count:
            return []
        same = self._by_head.get(_head(text), [])
        return [line for line in same if line.text.strip() != text.strip()]


def _argument(event: OpDone) -> str | None:
    asked = getattr(event.op, "keyword", None) or getattr(event.op, "lines", None)
    return None if asked is None else str(asked)


def _head(text: str) -> str:
    found = _WORD.search(text)
    return found[0].lower() if found else ""


def _held(lines: Sequence[str], candidates: set[str]) -> list[set[str]]:
    """Which of the candidates each line holds, as whole words."""
    held: list[set[str]] = []
    for line in lines:
        lowered = line.lower()
        near = [word for word in candidates if word in lowered]
        held.append(set(near).intersection(_WORD.findall(lowered)) if near else set())
    return held


def _places(lines: Sequence[str], file: str, memory: Memory) -> list[Writer | None]:
    """Who wrote the lines that a prompt shows: the file's last ones, or its whole."""
    total = len(memory.lines(file))
    first = total - len(lines) + 1
    if first >= 1 and list(lines) == memory.lines(file)[first - 1 :]:
        return [memory.writer(file, first + n) for n in range(len(lines))]
    numbers = {line: n for n, line in enumerate(memory.lines(file), 1)}
    return [memory.writer(file, numbers[line]) if line in numbers else None for line in lines]


def _retrieval_row(retrieval: Retrieval) -> dict[str, Any]:
    same = ("step", "turn", "index", "op", "file", "argument", "used", "named")
    return {
        **{name: getattr(retrieval, name) for name in same},
        "routine": retrieval.routine.value,
        "role": retrieval.role.value,
        "writers": [
            {"file": file, "step": w.step, "turn": w.turn, "index": w.index, "line": w.line}
            for file, w in retrieval.writers
        ],
    }


def _write_row(line: _Line, ended: int | None, ended_by: str | None) -> dict[str, Any]:
    same = ("file", "text", "routine", "repeats", "shown", "retrieved", "first_retrieved", "used",
            "first_used", "contradicted")  # fmt: skip
    writer = line.writer
    return {
        "step": writer.step,
        "turn": writer.turn,
        "index": writer.index,
        "line": writer.line,
        **{name: getattr(line, name) for name in same},
        "ended": ended,
        "ended_by": ended_by,
    }
