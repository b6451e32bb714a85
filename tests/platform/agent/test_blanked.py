"""The control arm whose memory is emptied at the start of every step."""

import asyncio
from pathlib import Path

import pytest
from support.agent_harness import CountingGame, SpyEngine, make_scaffold, make_session, play

from automem.agent.prompt_view import PromptView
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import FileSchema, load_scaffold
from automem.config import scaffold_path
from automem.engine.protocol import GenerateRequest
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.errors import UsageError
from automem.memory.edits import apply_edit
from automem.seeds import seeds_from
from automem.trace.events import MemoryChanged, Observed, OpDone, Routine, Turn
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import NoMemoryPlayer, PerfectMemoryPlayer
from automem_learners.pretrain.play import Game, play_all

BLANKED = AgentOptions(memory="blanked")


def hoarder(view: PromptView, request: GenerateRequest) -> str:
    """Writes what it sees, into a file of the scaffold and into one of its own; deletes a third."""
    if view.routine is Routine.LOG:
        return (
            f"<|APPEND|>notes.txt|{view.observation}<|END|><|APPEND|>own.txt|mine<|END|>"
            "<|DELETE|>rules.txt<|END|><|DONE|>"
        )
    return "<|ACTION|>go<|END|>" if view.wants_commit else "<|READ|>notes.txt<|END|>"


async def test_every_step_begins_with_the_initial_files_and_ends_with_its_own_notes(
    tmp_path: Path,
) -> None:
    engine = SpyEngine(hoarder)
    scaffold = make_scaffold([FileSchema("notes.txt", initial="a\n"), FileSchema("rules.txt")])
    session, recorder, sandbox = make_session(tmp_path, engine, scaffold, options=BLANKED)
    await play(session, CountingGame(3))
    logs = [r for r in engine.requests if "# log" in r.messages[-1].content]
    assert len(logs) == 3
    for request in logs:
        assert request.messages[-1].content.endswith("# files\nnotes.txt 1\nrules.txt 0")
    assert sandbox.read_text("notes.txt") == "a\ntick 0\n"
    assert {e.cause for e in recorder.events if isinstance(e, MemoryChanged)} == {
        "initial",
        "blank",
    }


async def test_the_journal_alone_tells_what_blanked_memory_holds(tmp_path: Path) -> None:
    session, recorder, sandbox = make_session(tmp_path, SpyEngine(hoarder), options=BLANKED)
    await play(session, CountingGame(3))
    files: dict[str, str | None] = {}
    for event in recorder.events:
        edit = event.edit if isinstance(event, OpDone | MemoryChanged) else None
        if edit is not None:
            files[edit.file] = apply_edit(files.get(edit.file), edit)
    held = {name: text for name, text in files.items() if text is not None}
    assert held == {info.name: sandbox.read_text(info.name) for info in sandbox.listing()}


async def test_memory_is_blanked_after_the_world_answered_and_before_log(tmp_path: Path) -> None:
    session, recorder, _ = make_session(tmp_path, SpyEngine(hoarder), options=BLANKED)
    await play(session, CountingGame(3))
    kinds = [type(event) for event in recorder.events]
    for place, event in enumerate(recorder.events):
        if isinstance(event, MemoryChanged) and event.cause == "blank":
            before = next(k for k in reversed(kinds[:place]) if k is not MemoryChanged)
            after = next(k for k in kinds[place:] if k is not MemoryChanged)
            assert (before, after) == (Observed, Turn)


async def test_an_unknown_kind_of_memory_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean 'blanked'"):
        AgentOptions(memory="blank")


def test_a_perfect_player_with_blanked_memory_plays_like_one_without() -> None:
    none = _mean_progression(NoMemoryPlayer(), AgentOptions(memory="none"))
    blanked = _mean_progression(PerfectMemoryPlayer(), BLANKED)
    assert blanked < 0.17
    assert abs(blanked - none) < 0.08


def _mean_progression(player: NoMemoryPlayer | PerfectMemoryPlayer, options: AgentOptions) -> float:
    binding = RoleBinding(engine=ScriptedEngine(player), counter=ApproximateCounter())
    scaffold = load_scaffold(scaffold_path("embedded"))
    games = [
        Game(ConcentrationWorld(40), seed, 0, scaffold, Roles(binding, binding), options=options)
        for seed in seeds_from("calibrate", 8)
    ]
    played = asyncio.run(play_all(games, 8))
    return sum(game.progression for game in played) / len(played)
