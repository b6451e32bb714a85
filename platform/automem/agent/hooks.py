"""A scaffold's optional `hooks.py`: what data cannot say, computed where it can do no harm.

    def parse(observation: str) -> dict: ...     # fields for notices: number_field("health")
    def notices(moment: dict) -> list[str]: ...  # lines for the prompt

`moment` holds what declared notices may look at (`expressions.Facts`) and `fields`, what `parse`
made of the observation. Every moment gets a fresh process, so a hook remembers nothing: it can tell
no more of the past than a declared notice could.

Promise: a hook that dies, hangs, floods or answers nonsense costs its notices, which is recorded,
and nothing else; after `MOST_FAILURES` in a row it is left alone for the rest of the attempt. It
runs isolated or not at all, unless the user asked by name for `unprotected`. Not covered: the time
it takes, some 50 ms a prompt.
"""

import ast
import asyncio
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from automem.agent.child import ChildFailure
from automem.agent.expressions import Facts
from automem.agent.isolation import UNPROTECTED, Isolation, find_isolation
from automem.errors import UsageError
from automem.trace.events import Routine

DEADLINE_S = 3.0
"""Of one moment, Python's start included."""
MOST_FAILURES = 3
MOST_NOTICES = 8
MOST_FIELDS = 64
MAX_LINE = 300
"""Characters of a notice or a text field."""

HOOK_MODES = ("isolated", "unprotected", "off")
"""What `AgentOptions.hooks` may be."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_threads = ThreadPoolExecutor(4, thread_name_prefix="hooks")


class HookError(Exception):
    """A hook gave nothing that can be used; the message says why."""


class Hooked(msgspec.Struct, frozen=True):
    """What a hook made of a moment."""

    fields: dict[str, str | float] = {}
    notices: tuple[str, ...] = ()


NOTHING_HOOKED = Hooked()


class _Answer(msgspec.Struct):
    fields: dict[str, bool | int | float | str] = {}
    notices: list[str] = []
    error: str = ""


class Hooks:
    """The hooks of one episode's scaffold."""

    def __init__(self, source: str, isolation: Isolation, deadline_s: float = DEADLINE_S) -> None:
        self._source = source
        self._isolation = isolation
        self._deadline_s = deadline_s
        self._failures = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it has failed too often to be asked again."""
        return self._failures >= MOST_FAILURES

    async def ask(self, routine: Routine, facts: Facts) -> Hooked:
        """What the hook says of this moment; HookError where it says nothing usable."""
        if self.is_given_up:
            return NOTHING_HOOKED
        moment = {**msgspec.structs.asdict(facts), "routine": routine.value}
        loop = asyncio.get_running_loop()
        try:
            hooked = await loop.run_in_executor(_threads, self._ask, moment)
        except HookError as error:
            self._failures += 1
            last = "; it is not asked again in this attempt" if self.is_given_up else ""
            raise HookError(f"{error}{last}") from error
        self._failures = 0
        return hooked

    def _ask(self, moment: dict[str, Any]) -> Hooked:
        try:
            line = self._isolation.ask({"source": self._source, "moment": moment}, self._deadline_s)
        except ChildFailure as failure:
            raise HookError(f"hooks.py {failure}") from failure
        try:
            answer = msgspec.json.decode(line, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HookError(f"hooks.py gave no usable answer: {error}") from error
        return _checked(answer)


def make_hooks(source: str, mode: str) -> Hooks | None:
    """The hooks as `mode` (of `HOOK_MODES`) wants them; None where there are none or they are off.

    UsageError where they have to be isolated and cannot be."""
    if not source or mode == "off":
        return None
    isolation = UNPROTECTED if mode == "unprotected" else find_isolation()
    if isinstance(isolation, str):
        raise UsageError(
            f"this scaffold has a hooks.py, which is code and runs isolated only: {isolation}. "
            "Use agent.hooks=off to play without it, or, if you wrote it yourself, "
            "agent.hooks=unprotected"
        )
    return Hooks(source, isolation)


def hook_functions(source: str) -> set[str]:
    """The functions that a hooks.py defines, without running it. SyntaxError where it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source, "hooks.py")
    except (ValueError, MemoryError, RecursionError) as error:
        raise SyntaxError(str(error) or "too deeply nested") from error
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _checked(answer: _Answer) -> Hooked:
    """The answer, as far as a prompt may hold it."""
    if answer.error:
        raise HookError(f"hooks.py {answer.error[:400]}")
    if len(answer.notices) > MOST_NOTICES or len(answer.fields) > MOST_FIELDS:
        raise HookError(
            f"hooks.py gave {len(answer.notices)} notices and {len(answer.fields)} fields; "
            f"{MOST_NOTICES} and {MOST_FIELDS} are allowed"
        )
    for line in (*answer.notices, *answer.fields.values(), *answer.fields):
        if isinstance(line, str) and (len(line) > MAX_LINE or _CONTROL.search(line)):
            raise HookError(f"hooks.py: expected plain lines of at most {MAX_LINE} characters")
    if any(line.startswith("#") for line in answer.notices):
        raise HookError("hooks.py: a notice may not begin with `#`, which heads a section")
    return Hooked(dict(answer.fields), tuple(line for line in answer.notices if line.strip()))
