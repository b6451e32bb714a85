"""Multi-session tasks: an episode is a series of sessions, and nothing but memory lasts.

Each session belongs to a family: people (names, preferences, wishes to be forgotten), building
(a layout, doors that close, things that move), proof (lemmas cited by number), codebase
(conventions that a task combines). Later sessions of a family need what earlier ones revealed, and
facts change. Everything is generated from the seed; scores are `series`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from automem.errors import UsageError
from automem.seeds import derive
from automem.suggest import no_such
from automem_envs.sessions import building, conventions, people, proof
from automem_envs.sessions.series import SeriesWorld, Story
from automem_envs.sessions.session import Family, Session


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


class SessionsWorld(SeriesWorld):
    """See the module's docstring."""

    has_families = True

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
        super().__init__(1 + sessions * (1 + most) if max_steps is None else max_steps)
        self.actions = "next; answer WORDS; go DIRECTION; apply NAME NUMBER: as the message says"
        self.instruction = INSTRUCTION.format(count=sessions)

    def story(self, seed: int) -> Story:
        """Rounds of all families, each round in an order of its own, so that every one comes
        again."""
        chance = Random(derive("sessions", "order", seed))
        order: list[str] = []
        while len(order) < self.sessions:
            order += chance.sample(self.families, len(self.families))
        titles = tuple(order[: self.sessions])
        return Story(titles, self._told(titles, seed), scored=self.sessions)

    def _told(self, titles: tuple[str, ...], seed: int) -> Iterator[Session]:
        kinds = _kinds(self.size)
        streams = {
            name: kinds[name].sessions(Random(derive("sessions", name, seed, self.size)), self.size)
            for name in sorted(set(self.families))
        }
        for title in titles:
            yield next(streams[title])
