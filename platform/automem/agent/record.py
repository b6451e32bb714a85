"""The session's hold on its own record: each event is either recalled or recorded.

While an interrupted step is replayed, events come from the journal and nothing is written; from its
end on, every change is journalled first and then applied to the memory directory.
"""

from collections import deque
from typing import TypeVar

import msgspec

from automem.agent.recorder import History, Recorder
from automem.errors import StoreError
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox
from automem.trace.blobs import CHAIN_START, next_link
from automem.trace.events import Event, MemoryChanged, OpDone, ToolUsed

EventType = TypeVar("EventType", bound=Event)


class SessionRecord:
    """See the module's docstring."""

    def __init__(self, recorder: Recorder, sandbox: Sandbox, history: History | None) -> None:
        self.recorder = recorder
        self.sandbox = sandbox
        self._pending: deque[Event] = deque(history.pending if history else ())
        self._chain = history.chain if history else CHAIN_START
        self.step_ops: list[OpDone] = []
        """Operations of the step under way, for who wants to know; a new step empties it."""

    def recall(self, kind: type[EventType]) -> EventType | None:
        """The next event of the interrupted step, if there is one; it must be of this kind."""
        if not self._pending:
            return None
        event = self._pending.popleft()
        if not isinstance(event, kind):
            raise StoreError(
                f"the journal does not replay: expected {kind.__name__}, found "
                f"{type(event).__name__}; the scaffold or the code has changed since it was written"
            )
        if isinstance(event, OpDone):
            self.step_ops.append(event)
        return event

    def next_if(self, kind: type[EventType]) -> EventType | None:
        """The next event to recall, where it is of this kind; it stays to be recalled."""
        event = self._pending[0] if self._pending else None
        return event if isinstance(event, kind) else None

    def expects(self, kind: type[Event]) -> bool:
        """Whether the next event to recall is of this kind."""
        return bool(self._pending) and isinstance(self._pending[0], kind)

    @property
    def is_replaying(self) -> bool:
        """Whether recorded events of the interrupted step are still to come."""
        return bool(self._pending)

    def record_op(self, op: OpDone) -> None:
        """Journal an operation, then apply its edit."""
        if op.edit is not None:
            self._chain = next_link(self._chain, op.edit)
            op = msgspec.structs.replace(op, chain=self._chain)
        self.recorder.append(op)
        self.step_ops.append(op)
        if op.edit is not None:
            self.sandbox.apply(op.edit)

    def record_tool(self, used: ToolUsed) -> None:
        """Journal a command from outside, then apply its edits."""
        for edit in used.edits:
            self._chain = next_link(self._chain, edit)
        self.recorder.append(msgspec.structs.replace(used, chain=self._chain))
        for edit in used.edits:
            self.sandbox.apply(edit)

    def change_memory(self, step: int, cause: str, edit: Edit) -> None:
        """Journal, then apply a change that no operation made."""
        self._chain = next_link(self._chain, edit)
        self.recorder.append(MemoryChanged(step=step, cause=cause, edit=edit, chain=self._chain))
        self.sandbox.apply(edit)
