"""Recorded multi-session tasks from a user's file (`records` has the formats) as a world.

The seed picks the record. Answers are judged by words, without a model (`judging`). That is
stricter than a judge that reads: a right answer in other words counts as wrong. Where the answer is
a set of paths (`swe_bench`), all of them have to be named, and at most as many others.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from automem_envs.sessions.judging import has_files, has_words
from automem_envs.sessions.records import Recording, load_recordings
from automem_envs.sessions.series import SeriesWorld, Story
from automem_envs.sessions.session import Session, Talk
from automem_envs.text_world import Seen

_played: dict[tuple[str, str], int] = {}
"""File and record to the seed that this process played it with first."""


class RecordedSessionsWorld(SeriesWorld):
    """See the module's docstring. `info["record"]` names the record at the start."""

    def __init__(self, form: str, path: str | Path, max_steps: int | None = None) -> None:
        """`form`: memory_arena, long_mem_eval or swe_bench. UsageError where the file does not
        fit."""
        self._path = str(path)
        self._recordings = load_recordings(form, path)
        self._judge = has_files if form == "swe_bench" else has_words
        longest = max(
            sum(len(moments) + 1 for moments in recording.sessions)
            for recording in self._recordings
        )
        super().__init__(longest if max_steps is None else max_steps)
        self.actions = "next; answer WORDS, where a question is asked"
        self.instruction = (
            "You live through a series of sessions. Whatever a session tells may be needed in any "
            "later one, and is shown once; what was told last holds. `next` goes on. A question is "
            "answered with: answer WORDS; what nobody told, with: answer unknown."
        )

    def begin(self, seed: int) -> Seen:
        seen = super().begin(seed)
        record = self._recordings[seed % len(self._recordings)].name
        if _played.setdefault((self._path, record), seed) != seed:
            warnings.warn(
                f"{self._path} has {len(self._recordings)} records: several seeds play the same "
                "one, and are no independent episodes; give at most as many seeds in a row",
                stacklevel=2,
            )
        return replace(seen, info={**seen.info, "record": record})

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
