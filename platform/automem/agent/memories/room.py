"""How much of a rival memory a prompt takes: its budget, or all that the context leaves."""

from collections.abc import Awaitable, Callable, Sequence

from automem.agent.conversation import Conversation
from automem.agent.memories.recall import Recall
from automem.agent.prompts import ShownFile
from automem.agent.roles import RoleBinding

UNKNOWN_ROOM = 100_000
"""Tokens taken to be left where no engine tells its window."""
_SPARE = 16
"""Tokens kept free beside the answer: what a renderer puts between messages."""


async def recalled(
    recall: Recall,
    bindings: Sequence[RoleBinding],
    open_with: Callable[[Sequence[ShownFile]], Awaitable[Conversation]],
    follow_up: str,
) -> list[ShownFile]:
    """What the prompt shows of memory; nothing where there is nothing.

    `bindings`: who answers it; `open_with`: the prompt with these lines in it; `follow_up`: what is
    said after it before the answer that counts."""
    tokens = recall.tokens
    if tokens is None:
        bare = await open_with([ShownFile(recall.file, "")])
        tokens = _room(bindings, bare, follow_up)
    text = recall.shown(tokens, bindings[0].counter)
    return [ShownFile(recall.file, text)] if text else []


def _room(bindings: Sequence[RoleBinding], bare: Conversation, follow_up: str) -> int:
    """Tokens that the smallest window leaves beside the prompt, the answer and the hand-over."""
    room = UNKNOWN_ROOM
    for binding in bindings:
        if binding.context_tokens:
            used = bare.count(binding.counter) + binding.counter.count(follow_up)
            answer = binding.sampling.max_tokens + _SPARE
            room = min(room, binding.context_tokens - used - answer)
    return max(0, room)
