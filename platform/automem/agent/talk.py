"""One routine's conversation: what its turns have shown of it, and what they have used up."""

from collections import Counter
from collections.abc import Mapping, Sequence

from automem.agent.conversation import Conversation
from automem.agent.file_rules import kind_refusal
from automem.agent.schema import FileSchema
from automem.agent.turns import error_result
from automem.engine.protocol import Completion, Message
from automem.memory.ops import Op, OpResult
from automem.trace.events import Routine


class Talk:
    """See the module's docstring."""

    def __init__(self, routine: Routine, conversation: Conversation, is_recalled: bool) -> None:
        self.routine = routine
        self.turns = 0
        self.last_turn = -1
        self.is_reopened = False
        self.conversation = conversation
        self.used: Counter[str] = Counter()
        """How often each operation was carried out in this routine."""
        self._is_recalled = is_recalled
        self._opening = list(conversation.messages)
        self._seen: list[Message] = []

    def refuse(
        self, op: Op, limits: Mapping[str, int], files: Mapping[str, FileSchema]
    ) -> OpResult | None:
        """The error result of an operation beyond its limit in one routine, or against its file's
        kind; None counts it as carried out."""
        limit = limits.get(op.name)
        if limit is not None and self.used[op.name] >= limit:
            times = "once" if limit == 1 else f"{limit} times"
            return error_result(
                f"{op.name} can be used {times} in one {self.routine.upper()}; "
                "go on with what you know"
            )
        message = kind_refusal(files, op)
        if message:
            return error_result(message)
        self.used[op.name] += 1
        return None

    def follow(self, completion: Completion, kept: int, replies: Sequence[Message]) -> None:
        """Go on after a turn."""
        self.conversation.take_turn(completion, kept, replies)

    def say(self, text: str) -> None:
        """Add to the last message; the first prompt of a replayed routine already holds it."""
        if self.turns or not self._is_recalled:
            self.conversation.say(text)

    def reopen(self) -> None:
        """Forget all but the opening messages: the context has overflowed."""
        self.is_reopened = True
        self.conversation = self.conversation.restarted(self._opening)

    def note_turn(self, turn: int) -> None:
        """Remember what the turn just taken was shown."""
        self.turns += 1
        self.last_turn = turn
        self._seen = list(self.conversation.messages)

    def new_messages(self) -> tuple[int, list[Message]]:
        """How many messages the last turn had already been shown, and those that are new."""
        messages = self.conversation.messages
        shared = 0
        for before, now in zip(self._seen, messages, strict=False):
            if before != now:
                break
            shared += 1
        return shared, messages[shared:]
