"""Templates to text: in this process for scaffolds that are shipped, in one of its own for others.

A sandboxed template can still count for ever, ask for gigabytes or print them. `ProcessRenderer`
compiles and renders elsewhere, with a deadline, a cap on memory and one on output; a template that
breaks them is the scaffold's failure (ScaffoldError), like one that does not render.

Promise: both give the same text for the same values. Not covered: isolation from files and network;
Jinja2's sandbox is what keeps templates from those.
"""

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec

from automem.agent import render_child
from automem.agent.child import Child, ChildFailure
from automem.agent.render_child import MAX_CHARS, RenderError, TemplateSet
from automem.errors import ScaffoldError

TEMPLATES = ("log.system", "log", "plan.system", "plan", "commit")

MOST_FAILURES = 3
"""Failures in a row after which a scaffold is not rendered any more: hundreds of sessions would
wait for it, one after another."""

DEADLINE_S = 5.0
"""Of one rendering elsewhere; it takes a fraction of a millisecond."""


class Renderer(Protocol):
    """See the module's docstring."""

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The template's text; ScaffoldError where it does not render."""
        ...

    def render_now(self, template: str, values: Mapping[str, Any]) -> str:
        """`render`, waiting for it."""
        ...

    def check(self) -> None:
        """Render everything once with made-up values; ScaffoldError where that fails."""
        ...


class LocalRenderer:
    """Renders in this process."""

    def __init__(self, name: str, sources: Mapping[str, str]) -> None:
        self._name = name
        try:
            self._templates = TemplateSet({name: sources[name] for name in TEMPLATES})
        except RenderError as error:
            raise _failure(name, error) from error

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        return self.render_now(template, values)

    def check(self) -> None:
        for template, values in _samples():
            self.render_now(template, values)

    def render_now(self, template: str, values: Mapping[str, Any]) -> str:
        try:
            return self._templates.render(template, values)
        except RenderError as error:
            raise _failure(self._name, error) from error


class ProcessRenderer:
    """Renders in a process that can be killed; it is started at first use and after a failure."""

    def __init__(
        self, name: str, sources: Mapping[str, str], deadline_s: float = DEADLINE_S
    ) -> None:
        self._name = name
        self._sources = {name: sources[name] for name in TEMPLATES}
        self._deadline_s = deadline_s
        self._child: Child | None = None
        self._failures = 0
        # One thread: one rendering at a time, and the event loop never waits for it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="renderer")

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._render, template, values)

    def render_now(self, template: str, values: Mapping[str, Any]) -> str:
        return self._thread.submit(self._render, template, values).result()

    def check(self) -> None:
        for template, values in _samples():
            self.render_now(template, values)

    def close(self) -> None:
        """End the process; a later rendering starts another."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __del__(self) -> None:
        self.close()
        self._thread.shutdown(wait=False)

    def _render(self, template: str, values: Mapping[str, Any]) -> str:
        request = {"template": template, "values": dict(values)}
        failure = ChildFailure(f"has failed {MOST_FAILURES} times and is not tried again")
        # A machine that is short of memory kills processes, too: blamed is who fails twice.
        for _ in range(2 if self._failures < MOST_FAILURES else 0):
            try:
                text = self._ask(self._started(), request, self._deadline_s)
                self._failures = 0
                return text
            except ChildFailure as error:
                self._child, failure = None, error
            except RenderError as error:
                raise _failure(self._name, error) from error
        self._failures += 1
        raise ScaffoldError(f"scaffold {self._name!r}: rendering {template}.j2 {failure}")

    def _started(self) -> Child:
        """The process that has the templates."""
        if self._child is None:
            child = _start(self._deadline_s)
            self._ask(child, {}, _START_S)
            self._ask(child, self._sources, self._deadline_s)
            self._child = child
        return self._child

    def _ask(self, child: Child, request: Any, deadline_s: float) -> str:
        line = child.ask(msgspec.json.encode(request), deadline_s, MAX_CHARS * 7)
        answer = msgspec.json.decode(line, type=dict[str, str])
        if "error" in answer:
            if child is not self._child:
                child.close()  # its templates do not compile: it is of no use
            raise RenderError(answer["error"])
        return answer["text"]


_START_S = 20.0
"""For a Python that imports Jinja2, on a busy machine."""


def _start(deadline_s: float) -> Child:
    script = str(Path(render_child.__file__))
    return Child([sys.executable, "-I", script, str(int(max(deadline_s, _START_S)) + 1)])


def _failure(name: str, error: RenderError) -> ScaffoldError:
    return ScaffoldError(f"scaffold {name!r}, {error}")


def _samples() -> list[tuple[str, dict[str, Any]]]:
    """Values of the kinds that play gives, with lists that are empty and lists that are not."""
    system = {"instruction": "instruction", "operations": ["<|READ|>file<|END|>"]}
    found: list[tuple[str, dict[str, Any]]] = []
    for has_any in (True, False):
        files = [dict(_SAMPLE_FILE)] if has_any else []
        opening = {
            "action": "action" if has_any else "",
            "changed": has_any,
            "observation": "observation",
            "index": [{"name": "notes.txt", "lines": 1, "bytes": 5}] if has_any else [],
            "shown": [{"name": "notes.txt", "text": "line"}] if has_any else [],
            "notices": ["notice"] if has_any else [],
        }
        for routine in ("log", "plan"):
            found.append((f"{routine}.system", {**system, "files": files}))
            found.append((routine, opening))
        found.append(("commit", {"forced": has_any, "form": "<|ACTION|>action<|END|>"}))
    return found


_SAMPLE_FILE = {
    "name": "notes.txt",
    "purpose": "purpose",
    "initial": "",
    "separator": ": ",
    "show_last": 0,
    "keep_last": 0,
    "kind": "text",
    "key": "",
    "show_in": ["plan"],
    "keep_bytes": 0,
    "drop_repeated": False,
    "drop_done": False,
    "drop": [],
}
