"""From scaffold, memory and observation to the messages that open a routine."""

from collections.abc import Sequence

import msgspec

from automem.agent.notices import notices_for
from automem.agent.recorder import LastStep
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import Message
from automem.memory.dialects.base import Commit, Dialect
from automem.memory.names import OpRefused
from automem.memory.ops import (
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
    List,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
    Write,
)
from automem.memory.sandbox import Sandbox
from automem.trace.events import Routine

_EXAMPLES: dict[str, AnyOp] = {
    "READ": Read("file"),
    "SEARCH": Search("file", "keyword"),
    "TAIL": Tail("file", 10),
    "COUNT": Count("file", "keyword"),
    "LIST": List(),
    "APPEND": Append("file", "text"),
    "WRITE": Write("file", "text"),
    "CREATE": Create("file"),
    "UPSERT": Upsert("file", "key", "text"),
    "REPLACE": Replace("file", "old", "new"),
    "DELETE": Delete("file"),
}


class ShownFile(msgspec.Struct, frozen=True):
    """Lines of a memory file that every PLAN shows."""

    name: str
    text: str


class Prompts:
    """Renders the opening messages of both routines; system parts once per episode."""

    def __init__(
        self, scaffold: Scaffold, dialect: Dialect, instruction: str, has_memory: bool
    ) -> None:
        self._scaffold = scaffold
        self._has_memory = has_memory
        schema = scaffold.schema
        self._system = {
            routine: Message(
                role="system",
                content=scaffold.render(
                    f"{routine}.system",
                    {
                        "instruction": instruction,
                        "files": schema.files if has_memory else (),
                        "operations": [
                            dialect.print(_EXAMPLES[op]) for op in (part.ops if has_memory else ())
                        ],
                    },
                ),
            )
            for routine, part in ((Routine.LOG, schema.log), (Routine.PLAN, schema.plan))
        }
        self._commit = {
            forced: scaffold.render(
                "commit", {"forced": forced, "form": dialect.print(Commit("action"))}
            )
            for forced in (False, True)
        }

    def open(
        self,
        routine: Routine,
        sandbox: Sandbox,
        observation: str,
        changed: bool,
        recent: Sequence[LastStep],
    ) -> list[Message]:
        """System and user message of a routine that begins now."""
        schema = self._scaffold.schema
        text = self._scaffold.render(
            routine,
            {
                "action": recent[-1].action if recent else "",
                "changed": changed,
                "observation": observation,
                "index": sandbox.listing() if self._has_memory else (),
                "shown": self._shown(sandbox) if routine is Routine.PLAN else (),
                "notices": notices_for(schema.notices, recent, observation),
            },
        )
        return [self._system[routine], Message(role="user", content=text)]

    def hand_over(self, forced: bool) -> str:
        """The fixed message after which the gameplay role must commit."""
        return self._commit[forced]

    def _shown(self, sandbox: Sandbox) -> list[ShownFile]:
        files = [file for file in self._scaffold.schema.files if file.show_last]
        if not files or not self._has_memory:
            return []
        present = {file.name for file in sandbox.listing()}
        shown = []
        for file in files:
            if file.name in present:
                lines = _text_of(sandbox, file.name).splitlines()
                kept = lines if file.show_last < 0 else lines[-file.show_last :]
                shown.append(ShownFile(file.name, "\n".join(kept)))
        return shown


def _text_of(sandbox: Sandbox, name: str) -> str:
    """The file's text, or what is wrong with it: one bad file never stops an episode."""
    try:
        return sandbox.read_text(name)
    except OpRefused as refusal:
        return str(refusal)
