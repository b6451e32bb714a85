"""One session: what the agent sees, may say, and what came of it.

A family (people, building, proof, conventions) is an endless stream of sessions that share a hidden
state: what a session reveals is needed in later ones, and some of it changes between them. The
stream is a function of its random numbers; nothing the agent does changes what comes later, so a
session that went badly costs its own score and nothing more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

NEXT = "next"
"""Goes on where something is told; gives up the task where one is set."""


class Session(Protocol):
    """See the module's docstring."""

    title: str
    tasks: int
    """Scored tasks; a session of none is not scored."""
    solved: int

    @property
    def is_over(self) -> bool: ...

    def look(self) -> str:
        """What is there now, and what may be said."""
        ...

    def accepts(self, action: str) -> bool:
        """Whether the action means something now. `next` always does."""
        ...

    def act(self, action: str) -> str:
        """Do it; what came of it, empty where that shows by itself."""
        ...


Family: TypeAlias = Callable[[Random, int], Iterator[Session]]
"""(random numbers, size) to an endless stream of sessions."""


Judge: TypeAlias = Callable[[str, tuple[str, ...]], bool]
"""Whether what was said is one of the right answers."""


def same_words(said: str, answers: tuple[str, ...]) -> bool:
    """The answer itself, in any case."""
    return said.casefold() in {answer.casefold() for answer in answers}


def same_text(said: str, answers: tuple[str, ...]) -> bool:
    """The answer itself, letter by letter."""
    return said in answers


@dataclass(frozen=True, slots=True)
class Moment:
    """A message, or a question where `answers` holds what counts as right."""

    text: str
    answers: tuple[str, ...] = ()


RIGHT, WRONG = "That was right.", "That was wrong."
_ANSWER = "answer "


class Talk:
    """A session that is a series of moments."""

    def __init__(self, title: str, moments: list[Moment], judge: Judge = same_words) -> None:
        self.title = title
        self.tasks = sum(bool(moment.answers) for moment in moments)
        self.solved = 0
        self._moments = moments
        self._judge = judge
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._moments)

    def look(self) -> str:
        moment = self._moments[self._at]
        if moment.answers:
            return f"Question: {moment.text}\nSay: answer ..., or next to skip it"
        return f"{moment.text}\nSay: next"

    def accepts(self, action: str) -> bool:
        if action.lower() == NEXT:
            return True
        is_asked = bool(self._moments[self._at].answers)
        return is_asked and action.lower().startswith(_ANSWER)

    def act(self, action: str) -> str:
        moment = self._moments[self._at]
        self._at += 1
        if not moment.answers:
            return ""
        is_right = action.lower() != NEXT and self._judge(action[len(_ANSWER) :], moment.answers)
        self.solved += is_right
        return RIGHT if is_right else WRONG
