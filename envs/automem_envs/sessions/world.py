"""Multi-session tasks: an episode is a series of sessions, and nothing but memory lasts.

Each session belongs to a family: people (names, preferences, wishes to be forgotten), building
(a layout, doors that close, things that move), proof (lemmas cited by number), codebase
(conventions that a task combines). Later sessions of a family need what earlier ones revealed, and
facts change. Everything is generated from the seed. A session's score is the share of its tasks
solved; progression is the mean over all sessions, those to come counted 0. No other reward.

The observation is the present alone: never an earlier message, never an earlier session.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from automem.errors import UsageError
from automem.seeds import derive
from automem.suggest import no_such
from automem_envs.sessions import building, conventions, people, proof
from automem_envs.sessions.session import NEXT, Family, Session
from automem_envs.text_world import Seen, TextWorld


@dataclass(frozen=True, slots=True)
class Kind:
    """A family and the most actions that one of its sessions can take."""

    sessions: Family
    most_steps: int


def _kinds(size: int) -> dict[str, Kind]:
    return {
        people.TITLE: Kind(people.sessions, people.most_steps(size)),
        building.TITLE: Kind(building.sessions, building.most_steps(size)),
        proof.TITLE: Kind(proof.sessions, proof.most_steps(size)),
        conventions.TITLE: Kind(conventions.sessions, conventions.most_steps(size)),
    }


FAMILIES = tuple(_kinds(1))

INSTRUCTION = (
    "You live through {count} sessions. Whatever a session tells or shows may be needed in any "
    "later one, and is shown once. Facts change: what was told last holds. What someone asks us to "
    "forget, and what nobody told, is answered with: answer unknown. Each message ends with what "
    "may be said now; `next` goes on, and gives up where a task is set. Each session's score is "
    "the share of its tasks that you solve."
)


class SessionsWorld(TextWorld[str]):
    """See the module's docstring.

    `info`: `session`, the number of the current one from 1 on, and `family`; when one ends,
    `session_score`; with the last one, `session_scores`, all in order, and `family_scores`."""

    def __init__(
        self,
        sessions: int = 12,
        families: Sequence[str] = FAMILIES,
        size: int = 4,
        max_steps: int | None = None,
    ) -> None:
        """`size` is the difficulty: facts told and asked per session, rooms, rules in view."""
        kinds = _kinds(size)
        for name in families:
            if name not in kinds:
                raise UsageError(no_such("sessions: family", name, list(kinds)))
        if sessions < 2 or not 1 <= size <= 30 or not families:
            raise UsageError(
                "sessions: expected at least 2 sessions, a size from 1 to 30 and a family, got "
                f"sessions={sessions}, size={size}, families={list(families)}"
            )
        self.families = tuple(families)
        self.size = size
        self.sessions = sessions
        most = max(kinds[name].most_steps for name in families)
        super().__init__(max_steps or 1 + sessions * (1 + most))
        self.actions = "next; answer WORDS; go DIRECTION; apply NAME NUMBER: as the message says"
        self.fallback_action = NEXT
        self.instruction = INSTRUCTION.format(count=sessions)
        self._streams: dict[str, Iterator[Session]] = {}
        self._order: list[str] = []
        self._scores: list[float] = []
        self._session: Session | None = None

    def begin(self, seed: int) -> Seen:
        """The door to the first session: nothing is revealed before the first action."""
        kinds = _kinds(self.size)
        self._streams = {
            name: kinds[name].sessions(Random(derive("sessions", name, seed, self.size)), self.size)
            for name in sorted(set(self.families))
        }
        self._order = _order(
            Random(derive("sessions", "order", seed)), self.families, self.sessions
        )
        self._scores = []
        self._session = None
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
            self._session = next(self._streams[self._order[len(self._scores)]])
            return Seen(self._inside(""), self._reached(), info=self._info())
        came = self._session.act(move)
        if not self._session.is_over:
            return Seen(self._inside(came), self._reached(), info=self._info())
        return self._close(came, self._session)

    def _close(self, came: str, session: Session) -> Seen:
        info = self._info()
        self._scores.append(session.solved / session.tasks)
        self._session = None
        info["session_score"] = self._scores[-1]
        text = f"Session {len(self._scores)} is over: {session.solved} of {session.tasks} solved."
        text = f"{came}\n{text}" if came else text
        if len(self._scores) < self.sessions:
            return Seen(f"{text}\n{self._door()}", self._reached(), info=info)
        info["session_scores"] = self._scores
        info["family_scores"] = _means(self._order, self._scores)
        return Seen(text, self._reached(), is_over=True, stop="all sessions done", info=info)

    def _reached(self) -> float:
        now = self._session.solved / self._session.tasks if self._session else 0.0
        return (sum(self._scores) + now) / self.sessions

    def _info(self) -> dict[str, Any]:
        number = len(self._scores)
        return {"session": number + 1, "family": self._order[number]}

    def _door(self) -> str:
        number = len(self._scores)
        return (
            f"Session {number + 1} of {self.sessions} is about to begin: {self._order[number]}\n"
            f"Say: next"
        )

    def _inside(self, came: str) -> str:
        assert self._session is not None
        lines = [f"Session {len(self._scores) + 1}: {self._session.title}", came]
        return "\n".join([*filter(None, lines), self._session.look()])


def _order(chance: Random, families: Sequence[str], count: int) -> list[str]:
    """Rounds of all families, each in an order of its own, so that every one comes again."""
    order: list[str] = []
    while len(order) < count:
        order += chance.sample(list(families), len(families))
    return order[:count]


def _means(names: list[str], scores: list[float]) -> dict[str, float]:
    """Mean score of each family."""
    by_name: dict[str, list[float]] = {}
    for name, score in zip(names, scores, strict=True):
        by_name.setdefault(name, []).append(score)
    return {name: sum(values) / len(values) for name, values in sorted(by_name.items())}
