"""A series of sessions as a world: doors between them, scores, progression.

A subclass tells the story of a seed. A session's score is the share of its tasks solved;
progression is the mean over the scored sessions of the episode, those to come counted 0. No other
reward is given. The observation is the present alone: never an earlier message or session.
"""

from abc import abstractmethod
from collections import Counter
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
    scored one ends, `session_score`; with the last, `session_scores`, all in order. Where titles
    are families that come again, `task_scores`, the mean of each, at both ends and whenever it
    changes: counted as progression is, which is their mean weighted by how often each comes."""

    fallback_action = NEXT
    has_families = False
    """Whether a title stands for a kind of session, not for one of them."""

    def __init__(self, max_steps: int) -> None:
        super().__init__(max_steps)
        self._titles: tuple[str, ...] = ()
        self._sessions: Iterator[Session] = iter(())
        self._session: Session | None = None
        self._scored = 1
        self._done = 0
        self._scores: list[float] = []
        self._families: dict[str, tuple[int, float]] = {}
        """Title to how many sessions have it, and the sum of their scores so far."""
        self._told_scores: dict[str, float] = {}

    @abstractmethod
    def story(self, seed: int) -> Story:
        """The episode of `seed`."""

    def begin(self, seed: int) -> Seen:
        """The door to the first session: nothing is revealed before the first action."""
        story = self.story(seed)
        self._titles, self._sessions = story.titles, iter(story.sessions)
        self._scored = story.scored
        self._session, self._done, self._scores = None, 0, []
        titles = Counter(self._titles) if self.has_families else {}
        self._families = {title: (titles[title], 0.0) for title in sorted(titles)}
        self._told_scores = {}
        return Seen(self._door(), 0.0, info=self._info() | self._news())

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
        info = self._info() | self._news()
        return Seen(self._inside(session, came), self._reached(), info=info)

    def _close(self, came: str, session: Session) -> Seen:
        info = self._info()
        said = f"Session {self._done + 1} is over"
        if session.tasks:
            score = info["session_score"] = self._now()
            self._scores.append(score)
            if (title := self._titles[self._done]) in self._families:
                count, total = self._families[title]
                self._families[title] = count, total + score
            said += f": {session.solved} of {session.tasks} solved"
        self._session = None
        self._done += 1
        info |= self._news()
        text = f"{came}\n{said}." if came else f"{said}."
        if self._done < len(self._titles):
            return Seen(f"{text}\n{self._door()}", self._reached(), info=info)
        info["session_scores"] = list(self._scores)
        if self.has_families:
            info["task_scores"] = self._told_scores
        return Seen(text, self._reached(), is_over=True, stop="all sessions done", info=info)

    def _reached(self) -> float:
        return (sum(self._scores) + self._now()) / self._scored

    def _now(self) -> float:
        """Score so far of the session at hand."""
        session = self._session
        return session.solved / session.tasks if session and session.tasks else 0.0

    def _news(self) -> dict[str, Any]:
        """The score of each family, where one changed."""
        at_hand = self._titles[self._done] if self._session else None
        scores = {
            title: (total + (self._now() if title == at_hand else 0.0)) / count
            for title, (count, total) in self._families.items()
        }
        if scores == self._told_scores:
            return {}
        self._told_scores = scores
        return {"task_scores": scores}

    def _info(self) -> dict[str, Any]:
        return {"session": self._done + 1, "family": self._titles[self._done]}

    def _door(self) -> str:
        number, of = self._done + 1, len(self._titles)
        return f"Session {number} of {of} is about to begin: {self._titles[self._done]}\nSay: next"

    def _inside(self, session: Session, came: str) -> str:
        lines = [f"Session {self._done + 1}: {session.title}", came]
        return "\n".join([*filter(None, lines), session.look()])
