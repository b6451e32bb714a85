"""A model's turn, read: which operations to carry out, whether it commits, what text to keep."""

from collections.abc import Sequence

import msgspec

from automem.agent.conversation import without_calls_from
from automem.engine.protocol import Completion, ToolCall
from automem.memory.dialects.base import Commit, Dialect, Done, Item, Malformed
from automem.memory.ops import READING, Op, OpResult, OpStatus
from automem.trace.events import Routine, Turn


class ParsedTurn(msgspec.Struct, frozen=True):
    """See the module's docstring."""

    actions: tuple[Item, ...]
    """Operations and malformed pieces to answer, in text order."""
    commit: Item | None
    is_done: bool
    kept: int
    """Characters of the text up to the end of the last of `actions`."""

    @property
    def is_idle(self) -> bool:
        """Nothing to carry out or to answer."""
        return not self.actions


def read_turn(completion: Completion, dialect: Dialect, routine: Routine) -> ParsedTurn:
    """Items up to the routine's end mark: `Done` in LOG, the first commit in PLAN."""
    actions: list[Item] = []
    for item in dialect.parse(completion.text, completion.tool_calls):
        if isinstance(item.value, Done):
            # PLAN has no end but a commit; DONE there only says that nothing is left to consult.
            return ParsedTurn(tuple(actions), None, True, _end(actions))
        if isinstance(item.value, Commit):
            if routine is Routine.PLAN:
                return ParsedTurn(tuple(actions), item, False, _end(actions))
            item = msgspec.structs.replace(
                item, value=Malformed("no game action belongs into LOG; end LOG with DONE")
            )
        actions.append(item)
    return ParsedTurn(tuple(actions), None, False, _end(actions))


def deferred(turn: ParsedTurn) -> ParsedTurn:
    """The turn without its commit where it also reads: the results have to be seen first."""
    reads = any(isinstance(a.value, Op) and a.value.name in READING for a in turn.actions)
    return msgspec.structs.replace(turn, commit=None) if reads else turn


def _end(actions: Sequence[Item]) -> int:
    return actions[-1].end if actions else 0


def refuse(item: Item, index: int, allowed: Sequence[str], ops_per_turn: int) -> OpResult | None:
    """The error result of an item that may not be carried out; None where it may."""
    if isinstance(item.value, Malformed):
        return error_result(item.value.message)
    if index >= ops_per_turn:
        return error_result(
            f"too many operations in one turn; the first {ops_per_turn} were carried out"
        )
    if isinstance(item.value, Op) and item.value.name not in allowed:
        return error_result(f"{item.value.name} is not available here; use {', '.join(allowed)}")
    return None


def error_result(message: str) -> OpResult:
    """A refusal as the model reads it."""
    text = message if message.startswith("error: ") else f"error: {message}"
    return OpResult(OpStatus.ERROR, text)


def completion_of(turn: Turn) -> Completion:
    """The completion that a recorded turn holds."""
    return Completion(
        text=turn.completion,
        token_ids=None if turn.token_ids is None else tuple(turn.token_ids),
        logprobs=None if turn.logprobs is None else tuple(turn.logprobs),
        finish_reason=turn.finish_reason,
        tool_calls=tuple(ToolCall(**call) for call in turn.tool_calls),
    )


def cut_calls(completion: Completion, commit: Item) -> Completion:
    """Without the native tool calls from the commit on: those before it are answered."""
    if not completion.tool_calls:
        return completion
    calls = without_calls_from(completion, commit.call_id)
    return msgspec.structs.replace(completion, tool_calls=calls)
