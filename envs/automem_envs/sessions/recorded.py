"""Recorded multi-session tasks from a user's file (`records` has the formats) as a world.

The seed picks the record. Answers are judged by words, without a model: case, punctuation and
articles do not count, and up to ten words may stand around the right ones. That is stricter than a
judge that reads: a right answer in other words counts as wrong. Where the answer is a set of paths
(`swe_bench`), all of them have to be named, and at most as many others.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from automem_envs.sessions.records import Recording, load_recordings
from automem_envs.sessions.series import SeriesWorld, Story
from automem_envs.sessions.session import Session, Talk

MORE_WORDS = 10
_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the"})


class RecordedSessionsWorld(SeriesWorld):
    """See the module's docstring."""

    def __init__(self, form: str, path: str | Path, max_steps: int | None = None) -> None:
        """`form`: memory_arena, long_mem_eval or swe_bench. UsageError where the file does not
        fit."""
        self._recordings = load_recordings(form, path)
        self._judge = has_files if form == "swe_bench" else has_words
        longest = max(
            sum(len(moments) + 1 for moments in recording.sessions)
            for recording in self._recordings
        )
        super().__init__(max_steps or longest)
        self.actions = "next; answer WORDS, where a question is asked"
        self.instruction = (
            "You live through a series of sessions. Whatever a session tells may be needed in any "
            "later one, and is shown once; what was told last holds. `next` goes on. A question is "
            "answered with: answer WORDS; what nobody told, with: answer unknown."
        )

    def story(self, seed: int) -> Story:
        recording = self._recordings[seed % len(self._recordings)]
        titles = tuple(
            f"{recording.name}, part {number}" for number in range(1, len(recording.sessions) + 1)
        )
        scored = sum(any(m.answers for m in moments) for moments in recording.sessions)
        return Story(titles, self._told(recording, titles), scored)

    def _told(self, recording: Recording, titles: tuple[str, ...]) -> Iterator[Session]:
        for title, moments in zip(titles, recording.sessions, strict=True):
            yield Talk(title, list(moments), self._judge)


def has_words(said: str, answers: tuple[str, ...]) -> bool:
    """Whether the words of an answer stand in what was said, with few others around them."""
    words = _words(said)
    for answer in answers:
        right = _words(answer) or [answer.casefold()]
        starts = range(len(words) - len(right) + 1)
        is_in = any(words[start : start + len(right)] == right for start in starts)
        if is_in and len(words) <= len(right) + MORE_WORDS:
            return True
    return False


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]


def has_files(said: str, answers: tuple[str, ...]) -> bool:
    """Whether every path is named, and at most as many others."""
    named = {word.strip(",;`'\"") for word in said.split()}
    return set(answers) <= named and len(named) <= 2 * len(answers)
