"""What a turn may consist of, as a grammar of the scaffold's vocabulary: `agent.guided`.

Off by default: a model that is kept to whole operations makes no malformed ones, but it samples
from another distribution than its own, and what it would have done by itself is not seen.
"""

from automem.agent.schema import ScaffoldSchema
from automem.memory.dialects.grammar import tags_grammar
from automem.trace.events import Routine


class Guidance:
    """The grammars of one scaffold's turns; empty ones where it is off."""

    def __init__(self, schema: ScaffoldSchema, is_on: bool) -> None:
        self._schema = schema
        self._is_on = is_on
        self._known: dict[tuple[Routine, bool], str] = {}

    def grammar(self, routine: Routine, must_commit: bool) -> str:
        """LOG: operations, or `DONE`. PLAN: operations, or a commit; in the end a commit alone."""
        if not self._is_on:
            return ""
        key = (routine, must_commit)
        if key not in self._known:
            is_log = routine is Routine.LOG
            ops = (self._schema.log if is_log else self._schema.plan).ops
            self._known[key] = tags_grammar(
                () if must_commit else ops,
                most=self._schema.ops_per_turn,
                commits=not is_log,
                finishes=is_log,
            )
        return self._known[key]
