"""From scaffold, memory and observation to the messages that open a routine."""

from collections.abc import Sequence

import msgspec

from automem.agent.hooks import NOTHING_HOOKED, Hooked
from automem.agent.notices import facts_of
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
    """Renders the opening messages of both routines; what is static, once per episode."""

    def __init__(
        self,
        scaffold: Scaffold,
        dialect: Dialect,
        instruction: str,
        has_memory: bool,
        knowledge: str = "",
    ) -> None:
        self._scaffold = scaffold
        self._dialect = dialect
        self._instruction = instruction
        self._has_memory = has_memory
        self._knowledge = knowledge
        self._system: dict[Routine, Message] = {}
        self._commit: dict[bool, str] = {}

    async def open(
        self,
        routine: Routine,
        sandbox: Sandbox,
        observation: str,
        changed: bool,
        recent: Sequence[LastStep],
        hooked: Hooked = NOTHING_HOOKED,
        recalled: Sequence[ShownFile] = (),
    ) -> list[Message]:
        """System and user message of a routine that begins now; `recalled` is shown beside what
        the scaffold shows."""
        files = sandbox.listing() if self._has_memory else []
        facts = facts_of(recent, observation, files, hooked.fields)
        lines = [notice.line(routine, facts) for notice in self._scaffold.notices]
        text = await self._scaffold.renderer.render(
            routine,
            {
                "action": facts.action,
                "changed": changed,
                "observation": observation,
                "index": files,
                "shown": [
                    *recalled,
                    *self._shown(routine, sandbox, {file.name for file in files}),
                ],
                "notices": [line for line in lines if line is not None] + list(hooked.notices),
            },
        )
        return [await self._system_message(routine), Message(role="user", content=text)]

    async def hand_over(self, forced: bool) -> str:
        """The fixed message after which the gameplay role must commit."""
        if forced not in self._commit:
            self._commit[forced] = await self._scaffold.renderer.render(
                "commit", {"forced": forced, "form": self._dialect.print(Commit("action"))}
            )
        return self._commit[forced]

    async def _system_message(self, routine: Routine) -> Message:
        if routine not in self._system:
            schema = self._scaffold.schema
            part = schema.log if routine is Routine.LOG else schema.plan
            text = await self._scaffold.renderer.render(
                f"{routine}.system",
                {
                    "instruction": self._instruction,
                    "files": schema.files if self._has_memory else (),
                    "operations": [
                        self._dialect.print(_EXAMPLES[op])
                        for op in (part.ops if self._has_memory else ())
                    ],
                },
            )
            content = f"{text}\n{self._knowledge}" if self._knowledge else text
            self._system[routine] = Message(role="system", content=content)
        return self._system[routine]

    def _shown(self, routine: Routine, sandbox: Sandbox, present: set[str]) -> list[ShownFile]:
        shown = []
        for file in self._scaffold.schema.files:
            if file.show_last and routine.value in file.show_in and file.name in present:
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
