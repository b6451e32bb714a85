"""A player of any world: an action drawn at random, nothing noted, nothing read.

The lower reference point of a world that brings no player of its own, and a load generator.
"""

import random
from collections.abc import Sequence

from automem.agent.prompt_view import read_prompt
from automem.engine.protocol import GenerateRequest
from automem.memory.dialects.base import Commit, Done
from automem.memory.dialects.tags import TagsDialect
from automem.trace.events import Routine

_DIALECT = TagsDialect()


class RandomPlayer:
    """See the module's docstring; `actions` is a list, or a sentence, from which nothing is drawn:
    then it says `otherwise`."""

    def __init__(self, actions: Sequence[str] | str = (), otherwise: str = "pass") -> None:
        self._actions = [] if isinstance(actions, str) else list(actions)
        self._otherwise = otherwise

    def reply(self, request: GenerateRequest) -> str:
        """The text of one turn."""
        if read_prompt(request.messages).routine is Routine.LOG:
            return _DIALECT.print(Done())
        choices = self._actions or [self._otherwise]
        return _DIALECT.print(Commit(random.Random(request.seed).choice(choices)))
