"""A series of sessions as a world: doors between them, scores, progression.

A subclass tells the story of a seed. A session's score is the share of its tasks solved;
progression is the mean over the scored sessions of the episode, those to come counted 0. No other
reward is given. The observation is the present alone: never an earlier message or session.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from automem_envs.sessions.session import NEXT, Session
from automem_envs.text_world import Seen, TextWorld


@dataclass(frozen=True, slots=True)
class Story:
    """One episode, before it is played."""

    titles: tuple[str, ...]
    """Of all sessions, in order."""
    sessions: Iterable[Session]
    """In order; may be made while they are played."""
    scored: int
    """How many of them have tasks."""


class SeriesWorld(TextWorld[str]):
    """See the module's docstring.

    `info`: `session`, the number of the current one from 1 on, and `family`, its title; when a
    scored one ends, `session_score`; with the last, `session_scores`, all in order, and
    `family_scores`, the mean of each title."""

    fallback_action = NEXT

    def __init__(self, max_steps: int) -> None:
        super().__init__(max_steps)
        self._titles: tuple[str, ...] = ()
        self._sessions: Iterator[Session] = iter(())
        self._session: Session | None = None
        self._scored = 1
        self._done = 0
        self._scores: list[tuple[str, float]] = []

    @abstractmethod
    def story(self, seed: int) -> Story:
        """The episode of `seed`."""

    def begin(self, seed: int) -> Seen:
        """The door to the first session: nothing is revealed before the first action."""
        story = self.story(seed)
        self._titles, self._sessions = story.titles, iter(story.sessions)
        self._scored = story.scored
        self._session, self._done, self._scores = None, 0, []
        return Seen(self._door(), 0.0, info=self._info())

    def read(self, action: str) -> str | None:
        """Any text that means something now; blanks do not count."""
        action = " ".join(action.split())
        if self._session is None:
            return NEXT if action.lower() == NEXT else None
        return action if self._session.accepts(action) else None

    def play(self, move: str) -> Seen:
        """One action inside a session, or the step through the door to the next one."""
        if self._session is None:
            self._session = next(self._sessions)
            return Seen(self._inside(self._session, ""), self._reached(), info=self._info())
        session = self._session
        came = session.act(move)
        if session.is_over:
            return self._close(came, session)
        return Seen(self._inside(session, came), self._reached(), info=self._info())

    def _close(self, came: str, session: Session) -> Seen:
        info = self._info()
        said = f"Session {self._done + 1} is over"
        if session.tasks:
            self._scores.append((self._titles[self._done], session.solved / session.tasks))
            info["session_score"] = self._scores[-1][1]
            said += f": {session.solved} of {session.tasks} solved"
        self._session = None
        self._done += 1
        text = f"{came}\n{said}." if came else f"{said}."
        if self._done < len(self._titles):
            return Seen(f"{text}\n{self._door()}", self._reached(), info=info)
        info["session_scores"] = [score for _, score in self._scores]
        info["family_scores"] = _means(self._scores)
        return Seen(text, self._reached(), is_over=True, stop="all sessions done", info=info)

    def _reached(self) -> float:
        session = self._session
        now = session.solved / session.tasks if session and session.tasks else 0.0
        return (sum(score for _, score in self._scores) + now) / self._scored

    def _info(self) -> dict[str, Any]:
        return {"session": self._done + 1, "family": self._titles[self._done]}

    def _door(self) -> str:
        number, of = self._done + 1, len(self._titles)
        return f"Session {number} of {of} is about to begin: {self._titles[self._done]}\nSay: next"

    def _inside(self, session: Session, came: str) -> str:
        lines = [f"Session {self._done + 1}: {session.title}", came]
        return "\n".join([*filter(None, lines), session.look()])


def _means(scores: list[tuple[str, float]]) -> dict[str, float]:
    """Mean score of each title."""
    by_title: dict[str, list[float]] = {}
    for title, score in scores:
        by_title.setdefault(title, []).append(score)
    return {title: sum(values) / len(values) for title, values in sorted(by_title.items())}
