"""What the scaffold itself does to memory: initial files, pruning, blanking.

Promise: every change is journalled before it is made, so recovery and provenance stay exact; after
a kill in the middle, what was done is recalled and the rest is done. A file that cannot be read is
left alone: one bad file never stops an episode. No change here depends on anything but the memory
files themselves.
"""

from contextlib import suppress

from automem.agent.record import SessionRecord
from automem.agent.scaffold import FileSchema
from automem.memory.edits import edit_between
from automem.memory.names import OpRefused
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox
from automem.trace.events import MemoryChanged


class Upkeep:
    """See the module's docstring."""

    def __init__(
        self, files: tuple[FileSchema, ...], record: SessionRecord, sandbox: Sandbox
    ) -> None:
        self._files = files
        self._record = record
        self._sandbox = sandbox

    def write_initial(self) -> None:
        """The scaffold's files, as far as they are not there: once, before the first step."""
        present = {file.name for file in self._sandbox.listing()}
        for file in self._files:
            if file.name not in present:
                edit = Edit(file=file.name, inserted=file.initial, creates=True)
                self._record.change_memory(0, "initial", edit)

    def blank(self, step: int) -> None:
        """Memory as the scaffold first made it: what older steps wrote is gone (a control)."""
        if self._is_recalled("blank"):
            return
        initial = {file.name: file.initial for file in self._files}
        names = {file.name for file in self._sandbox.listing()}
        for name in sorted(names | initial.keys()):
            with suppress(OpRefused):
                text = self._sandbox.find_text(name)
                edit = edit_between(name, text, initial.get(name))
                if edit is not None:
                    self._record.change_memory(step, "blank", edit)

    def prune(self, step: int) -> None:
        """Drop the oldest lines of files that outgrew their schema."""
        if self._is_recalled("prune"):
            return
        bounded = [file for file in self._files if file.keep_last]
        lines = {file.name: file.lines for file in self._sandbox.listing()} if bounded else {}
        for file in bounded:
            surplus = lines.get(file.name, 0) - file.keep_last
            if surplus > 0:
                text = self._sandbox.read_text(file.name)
                end = 0
                for _ in range(surplus):
                    end = text.index("\n", end) + 1
                edit = Edit(file=file.name, start=0, removed=end)
                self._record.change_memory(step, "prune", edit)

    def _is_recalled(self, cause: str) -> bool:
        """Recall the changes of this cause; whether the step went on after them."""
        while (change := self._record.next_if(MemoryChanged)) and change.cause == cause:
            self._record.recall(MemoryChanged)
        return self._record.is_replaying
