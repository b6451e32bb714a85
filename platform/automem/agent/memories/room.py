"""How much of a rival memory a prompt takes: its budget, or all that the context leaves."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from automem.agent.conversation import Conversation
from automem.agent.memories.recall import Recall
from automem.agent.prompts import ShownFile
from automem.agent.roles import RoleBinding
from automem.engine.protocol import Message
from automem.memory.dialects.base import Dialect, Item
from automem.memory.ops import OpResult, OpStatus

UNKNOWN_ROOM = 100_000
"""Tokens taken to be left where no engine tells its window."""
_SPARE = 16
"""Tokens kept free beside the answer: what a renderer puts between messages."""
_NOTHING = "no match"
"""What a search answers that finds nothing (`automem.memory.execute`)."""


class Recalled(msgspec.Struct, frozen=True):
    """What a prompt shows of a rival memory."""

    files: tuple[ShownFile, ...] = ()
    messages: tuple[Message, ...] = ()
    """A search that the session made in the model's place, and its result."""


async def recalled(
    recall: Recall,
    dialect: Dialect,
    bindings: Sequence[RoleBinding],
    open_with: Callable[[Recalled], Awaitable[Conversation]],
    follow_up: str,
) -> Recalled:
    """What the prompt shows of memory; nothing where there is nothing.

    `bindings`: who answers it; `open_with`: the prompt with it; `follow_up`: what is said after it
    before the answer that counts."""
    tokens = recall.tokens
    if tokens is None:
        bare = await open_with(Recalled((ShownFile(recall.file, ""),)))
        tokens = _room(bindings, bare, follow_up)
    text = recall.shown(tokens, bindings[0].counter)
    search = recall.search
    if search is not None:
        item = Item(search, 0, 0)
        answer = dialect.answer([(item, OpResult(OpStatus.OK, text or _NOTHING))])
        said = Message(role="assistant", content=dialect.print(search))
        return Recalled((), (said, *(Message(role="user", content=r.content) for r in answer)))
    return Recalled((ShownFile(recall.file, text),)) if text else Recalled()


def _room(bindings: Sequence[RoleBinding], bare: Conversation, follow_up: str) -> int:
    """Tokens that the smallest window leaves beside the prompt, the answer and the hand-over."""
    room = UNKNOWN_ROOM
    for binding in bindings:
        if binding.context_tokens:
            used = bare.count(binding.counter) + binding.counter.count(follow_up)
            answer = min(binding.sampling.max_tokens, binding.context_tokens // 4) + _SPARE
            room = min(room, binding.context_tokens - used - answer)
    return max(0, room)
