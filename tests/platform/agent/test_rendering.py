"""Templates of strangers: the same text, from a process that may misbehave."""

import os
import shutil
import time
from pathlib import Path

import pytest
from support.agent_harness import TEMPLATES, CountingGame, SpyEngine, make_session, play

from automem.agent.child import Child, ChildFailure
from automem.agent.rendering import (
    MOST_FAILURES,
    LocalRenderer,
    ProcessRenderer,
    Renderer,
)
from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.errors import ScaffoldError

VALUES = {"forced": False, "form": "<|ACTION|>go<|END|>"}


def other(source: str, deadline_s: float = 20.0) -> ProcessRenderer:
    return ProcessRenderer("other", {**TEMPLATES, "commit": source}, deadline_s)


async def test_templates_of_strangers_word_the_same_prompts_elsewhere(tmp_path: Path) -> None:
    prompts = []
    for name in ("shipped", "changed"):
        folder = shutil.copytree(scaffold_path("v0"), tmp_path / name)
        if name == "changed":
            path = folder / "plan.j2"
            path.write_text(path.read_text() + "{# nothing that is seen #}")
        scaffold = load_scaffold(folder)
        expected: type[Renderer] = LocalRenderer if name == "shipped" else ProcessRenderer
        assert type(scaffold.renderer) is expected
        engine = SpyEngine(lambda view, request: "<|ACTION|>go<|END|><|DONE|>")
        session, _, _ = make_session(tmp_path / f"{name}-memory", engine, scaffold)
        await play(session, CountingGame(5))
        prompts.append([m.content for r in engine.requests for m in r.messages])
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for a in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "more than 400000 characters"),
        ("{{ 'x' * 1000000 }}", "more than 400000 characters"),
        ("{% set x = ('y' ~ form) * 999999999 %}{{ x }}", "does not render"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ missing }}", "'missing' is undefined"),
        ("a\n{% endif %}", r"commit\.j2 line 2"),
    ],
)
async def test_a_template_that_asks_for_too_much_is_the_scaffolds_failure(
    source: str, message: str
) -> None:
    renderer = other(source)
    with pytest.raises(ScaffoldError, match=message):
        await renderer.render("commit", VALUES)
    renderer.close()


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ (form | length) ** (9 ** 9) }}",
    ],
)
async def test_a_template_that_never_ends_is_stopped(source: str) -> None:
    renderer = other(source, deadline_s=0.5)
    with pytest.raises(ScaffoldError, match=r"gave no answer within 0\.5 s"):
        await renderer.render("commit", VALUES)
    assert not _children_of_this_process("render_child")


async def test_the_next_rendering_is_not_hurt_by_one_that_failed() -> None:
    renderer = other("{% if forced %}{{ 'x' * 1000000 }}{% endif %}{{ form }}")
    with pytest.raises(ScaffoldError):
        await renderer.render("commit", {**VALUES, "forced": True})
    assert await renderer.render("commit", VALUES) == "<|ACTION|>go<|END|>"
    renderer.close()
    assert await renderer.render("commit", VALUES) == "<|ACTION|>go<|END|>"
    renderer.close()


async def test_a_template_that_keeps_hanging_is_not_waited_for_again() -> None:
    renderer = other("{% for a in range(99999) %}{{ 9 ** (9 ** 9) }}{% endfor %}", deadline_s=0.2)
    for _ in range(MOST_FAILURES):
        with pytest.raises(ScaffoldError, match="no answer within"):
            await renderer.render("commit", VALUES)
    with pytest.raises(ScaffoldError, match="is not tried again"):
        await renderer.render("commit", VALUES)


def test_a_process_that_floods_dies_or_hangs_gives_a_failure_and_is_gone() -> None:
    environment = {"PATH": os.environ["PATH"]}
    for command, message in (
        (["sh", "-c", "yes | tr -d '\\n'"], "more than 1000 bytes"),
        (["sh", "-c", "read line; exit 3"], "died without an answer"),
        (["sh", "-c", "sleep 60 & sleep 60"], r"within 0\.5 s"),
    ):
        child = Child(command, environment)
        with pytest.raises(ChildFailure, match=message):
            child.ask(b"hello", 0.5 if "sleep" in command[2] else 20.0, 1000)
        assert _is_gone_soon(child.pid)
    with pytest.raises(ChildFailure, match="could not be started"):
        Child(["/nonexistent"])


def _is_gone_soon(group: int) -> bool:
    """Whether no process of the group is left, once the kernel has taken them down."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        os.sched_yield()
    return False


def _children_of_this_process(word: str) -> list[str]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
            command = (status.parent / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if parent == str(os.getpid()) and word in command:
            found.append(command)
    return found
