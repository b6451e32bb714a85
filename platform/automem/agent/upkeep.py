"""What the scaffold itself does to memory: initial files, pruning, blanking.

Promise: every change is journalled before it is made, so recovery and provenance stay exact; after
a kill in the middle, what was done is recalled and the rest is done. A file that cannot be read is
left alone: one bad file never stops an episode. No change here depends on anything but the memory
files and the present observation, and none done twice does more than once.
"""

from contextlib import suppress

from automem.agent.pruning import is_pruned, surplus_chars, without_dropped
from automem.agent.record import SessionRecord
from automem.agent.schema import FileSchema
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

    def prune(self, step: int, observation: str) -> None:
        """Drop the lines that each file's schema says are of no more use, oldest first."""
        if self._is_recalled("prune"):
            return
        pruned = [file for file in self._files if is_pruned(file)]
        present = {file.name for file in self._sandbox.listing()} if pruned else set()
        for file in pruned:
            if file.name in present:
                with suppress(OpRefused):
                    self._prune_file(step, file, observation)

    def _prune_file(self, step: int, file: FileSchema, observation: str) -> None:
        text = self._sandbox.read_text(file.name)
        kept = without_dropped(file, text, observation)
        edit = edit_between(file.name, text, kept)
        if edit is not None:
            self._record.change_memory(step, "prune", edit)
        surplus = surplus_chars(file, kept)
        if surplus:
            edit = Edit(file=file.name, start=0, removed=surplus)
            self._record.change_memory(step, "prune", edit)

    def _is_recalled(self, cause: str) -> bool:
        """Recall the changes of this cause; whether the step went on after them."""
        while (change := self._record.next_if(MemoryChanged)) and change.cause == cause:
            self._record.recall(MemoryChanged)
        return self._record.is_replaying
