"""Files of recorded multi-session tasks, read and checked: three published formats.

`memory_arena`: JSON lines of `id`, `questions` (list of text), `answers` (list, as many),
`backgrounds` (optional: text, or a list of texts). A record is an episode, a question a session. Of
the published subsets these are the ones with answers in words: `progressive_search` and both of
`formal_reasoning`. `bundled_shopping` and `group_travel_planner`, whose answers are objects and
plans that need judges of their own, are refused.

`long_mem_eval`: a JSON list (or JSON lines) of `question_id`, `question`, `answer`,
`haystack_sessions` (list of sessions, each a list of `{"role": ..., "content": ...}`) and,
optional, `haystack_dates`, `question_date`. One record is an episode: its sessions are told turn by
turn, turns without text left out; the question is the last session. Ids that end in `_abs` are
answered with `unknown`.

`swe_bench`: a JSON list (or JSON lines) of `instance_id`, `repo`, `problem_statement`, `patch` and,
optional, `created_at`. The records of one `repo`, oldest first, are an episode, an issue a session.
What is asked is which files have to change, which is less than solving the issue: nothing is run.

A file that does not fit is a UsageError naming file, record and field.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automem.errors import UsageError
from automem.suggest import no_such
from automem_envs.sessions.session import Moment


@dataclass(frozen=True, slots=True)
class Recording:
    """An episode: sessions of moments."""

    name: str
    sessions: tuple[tuple[Moment, ...], ...]


UNKNOWN = "unknown"


class _Record:
    """One record of a file; every field that is read is checked."""

    def __init__(self, where: str, value: Any) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise UsageError(f"{where}: expected an object, got {_kind(value)}")
        self._value = value

    def has(self, field: str) -> bool:
        return self._value.get(field) is not None

    def wrong(self, field: str, expected: str, value: Any) -> UsageError:
        got = _kind(value) if value is not None or field in self._value else "nothing"
        return UsageError(f"{self.where}, field {field!r}: expected {expected}, got {got}")

    def refuse(self, field: str, expected: str) -> None:
        """UsageError where the record has the field."""
        if self.has(field):
            raise self.wrong(field, expected, self._value[field])

    def text(self, field: str) -> str:
        value = self._value.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "text", value)
        return value.strip()

    def scalar(self, field: str) -> str:
        """Text or a number, as text."""
        value = self._value.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return self.text(field)

    def text_or_empty(self, field: str) -> str:
        """Text, which may be empty."""
        value = self._value.get(field)
        return value.strip() if isinstance(value, str) else self.text(field)

    def items(self, field: str) -> list[Any]:
        value = self._value.get(field)
        if not isinstance(value, list) or not value:
            raise self.wrong(field, "a list that is not empty", value)
        return value

    def texts(self, field: str) -> list[str]:
        """A list of texts or numbers."""
        found = []
        for number, value in enumerate(self.items(field)):
            if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
                raise self.wrong(f"{field}[{number}]", "text", value)
            found.append(str(value).strip())
        return found


def _kind(value: Any) -> str:
    """A JSON value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    if value in ("", [], {}):
        return f"{names[type(value)]} that is empty"
    return names.get(type(value), type(value).__name__)


_SUBSETS = "of MemoryArena, progressive_search and formal_reasoning_* are supported"


def _memory_arena(records: Iterator[_Record]) -> list[Recording]:
    found = []
    for record in records:
        record.refuse("base_person", f"no such field: {_SUBSETS}")
        for number, answer in enumerate(record.items("answers")):
            if isinstance(answer, dict | list):
                raise record.wrong(f"answers[{number}]", f"text: {_SUBSETS}", answer)
        questions, answers = record.texts("questions"), record.texts("answers")
        if len(questions) != len(answers):
            raise UsageError(
                f"{record.where}, field 'answers': expected {len(questions)}, one for each of "
                f"'questions', got {len(answers)}"
            )
        backgrounds = _backgrounds(record, len(questions))
        sessions = [
            (*told, Moment(question, (answer,)))
            for told, question, answer in zip(backgrounds, questions, answers, strict=True)
        ]
        found.append(Recording(record.scalar("id"), tuple(sessions)))
    return found


def _backgrounds(record: _Record, count: int) -> list[tuple[Moment, ...]]:
    """What each session tells first: a list goes along with the questions where it is as long,
    else, like a single text, to the first session."""
    if not record.has("backgrounds"):
        return [()] * count
    try:
        texts = [record.text("backgrounds")]
    except UsageError:
        texts = record.texts("backgrounds")
    if len(texts) == count:
        return [(Moment(text),) for text in texts]
    return [tuple(Moment(text) for text in texts), *([()] * (count - 1))]


def _long_mem_eval(records: Iterator[_Record]) -> list[Recording]:
    found = []
    for record in records:
        sessions = []
        dates = record.texts("haystack_dates") if record.has("haystack_dates") else []
        for number, session in enumerate(record.items("haystack_sessions")):
            field = f"haystack_sessions[{number}]"
            if not isinstance(session, list):
                raise record.wrong(field, "a list of turns", session)
            told = [Moment(f"Date: {dates[number]}")] if number < len(dates) else []
            for place, turn in enumerate(session):
                part = _Record(f"{record.where}, field {field!r}, turn {place + 1}", turn)
                if content := part.text_or_empty("content"):
                    told.append(Moment(f"{part.text('role')}: {content}"))
            if told:
                sessions.append(tuple(told))
        name = record.text("question_id")
        answer = UNKNOWN if name.endswith("_abs") else record.scalar("answer")
        question = record.text("question")
        if record.has("question_date"):
            question = f"({record.text('question_date')}) {question}"
        found.append(Recording(name, (*sessions, (Moment(question, (answer,)),))))
    return found


_PATCHED = re.compile(r"^(?:\+\+\+ b/|--- a/)(.+?)\s*$", re.MULTILINE)


def _swe_bench(records: Iterator[_Record]) -> list[Recording]:
    repositories: dict[str, list[tuple[str, tuple[Moment, ...]]]] = {}
    for record in records:
        files = tuple(dict.fromkeys(_PATCHED.findall(record.text("patch"))))
        if not files:
            raise UsageError(
                f"{record.where}, field 'patch': expected a unified diff with lines such as "
                "'+++ b/path', got none"
            )
        created = record.text("created_at") if record.has("created_at") else ""
        name = record.text("instance_id")
        moments = (
            Moment(f"Issue {name}:\n{record.text('problem_statement')}"),
            Moment(f"Which files have to change for {name}? Paths with blanks between.", files),
            Moment(f"{name} was solved in: {' '.join(files)}"),
        )
        repositories.setdefault(record.text("repo"), []).append((created, moments))
    return [
        Recording(name, tuple(moments for _, moments in sorted(issues, key=lambda issue: issue[0])))
        for name, issues in sorted(repositories.items())
    ]


FORMATS: dict[str, Callable[[Iterator[_Record]], list[Recording]]] = {
    "memory_arena": _memory_arena,
    "long_mem_eval": _long_mem_eval,
    "swe_bench": _swe_bench,
}


def load_recordings(form: str, path: str | Path) -> list[Recording]:
    """The episodes of a file. UsageError where it cannot be read or does not fit its format."""
    if form not in FORMATS:
        raise UsageError(no_such("format of recorded sessions", form, FORMATS))
    if not str(path):
        raise UsageError(f"recorded sessions: give the {form} file: env.world.path=FILE")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    found = FORMATS[form](_records(str(path), text))
    if not found:
        raise UsageError(f"{path}: expected at least one record of {form}, got none")
    return found


def _records(path: str, text: str) -> Iterator[_Record]:
    """Of a JSON list, or of one JSON value per line. JSON lines end with a line feed alone: other
    ends of lines that Unicode knows may stand inside a text."""
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{path}: expected a JSON list: {error}") from error
        for number, value in enumerate(values, 1):
            yield _Record(f"{path}, record {number}", value)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: expected JSON: {error}") from error
            yield _Record(f"{path}, record on line {number}", value)
