"""Rival memories in a session: what they write, what they show, and that a kill changes nothing."""

import itertools
from pathlib import Path

import msgspec
import pytest
from support.agent_harness import (
    ByteCounter,
    ByteRenderer,
    CountingGame,
    SpyEngine,
    make_scaffold,
    make_session,
    play,
)

from automem.agent.memories import MEMORIES, RecallOptions
from automem.agent.memories.options import RIVALS
from automem.agent.prompt_view import PromptView, read_prompt
from automem.agent.recorder import History, MemoryRecorder
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import Notice, load_scaffold
from automem.config import CHECKS, scaffold_path
from automem.engine.protocol import GenerateRequest
from automem.errors import UsageError
from automem.memory.edits import apply_edit
from automem.memory.ops import READING
from automem.rollout import lease as leases
from automem.rollout.journal import Journal
from automem.rollout.recovery import recover
from automem.trace.events import Event, MemoryChanged, Observed, OpDone, Outcome, Routine, Turn


def scribe(view: PromptView, request: GenerateRequest) -> str:
    """Keeps a memo where it is asked to; acts by the seed."""
    if view.routine is Routine.LOG:
        verb = "WRITE" if view.observation == "tick 0" else "APPEND"
        return f"<|{verb}|>memo.txt|saw {view.observation}<|END|><|DONE|>"
    return f"<|ACTION|>go {request.seed % 7}<|END|>"


def shown_in(engine: SpyEngine, file: str, routine: str = "plan") -> list[list[str]]:
    """Lines of the file in each prompt that opens the routine."""
    openings = [r for r in engine.requests if f"# {routine}\n" in r.messages[1].content]
    return [read_prompt(request.messages).shown.get(file, []) for request in openings]


async def played(folder: Path, steps: int = 5, **options: object) -> tuple[SpyEngine, list[Event]]:
    engine = SpyEngine(lambda view, request: scribe(view, request).replace("go", "go on"))
    session, recorder, _ = make_session(
        folder, engine, options=msgspec.convert(options, AgentOptions)
    )
    await play(session, CountingGame(steps))
    return engine, recorder.events


async def test_an_automatic_log_has_every_step_and_asks_no_model_for_it(tmp_path: Path) -> None:
    engine, events = await played(tmp_path, memory="window")
    kept = [event.edit.inserted for event in events if isinstance(event, MemoryChanged)]
    assert kept[0] == "tick 0\n"
    assert [text.split(": ")[1] for text in kept[1:]] == [
        f"tick {step % 3}\n" for step in range(1, 6)
    ]
    assert all(text.startswith("go on ") for text in kept[1:])
    assert not [e for e in events if isinstance(e, OpDone)]
    assert {e.role for e in events if isinstance(e, Turn)} == {"gameplay"}
    assert len(engine.requests) == 5


async def test_nothing_is_logged_before_the_world_has_answered(tmp_path: Path) -> None:
    _, events = await played(tmp_path, memory="bm25")
    for before, event in itertools.pairwise(events):
        if isinstance(event, MemoryChanged):
            assert isinstance(before, Observed)
            assert before.step == event.step


async def test_a_window_shows_the_newest_steps_but_not_the_present_one(tmp_path: Path) -> None:
    engine, _ = await played(tmp_path, memory="window", recall={"entries": 2})
    shown = shown_in(engine, "history.txt")
    assert shown[0] == []
    assert shown[1] == ["tick 0"]
    assert shown[4][0] == "... 2 more lines not shown"
    assert [line.split(": ")[-1] for line in shown[4][1:]] == ["tick 2", "tick 0"]


async def test_bm25_shows_the_steps_most_like_the_present_one_as_a_search_it_made(
    tmp_path: Path,
) -> None:
    engine, _ = await played(tmp_path, 9, memory="bm25", recall={"entries": 1, "seen": "tick {n}"})
    said = [message.content for message in engine.requests[8].messages[2:]]
    assert said == [
        "<|SEARCH|>history.txt|tick 2<|END|>",
        "# results\nSEARCH history.txt|tick 2\ntick 2\n... 7 more lines not shown\n# commit",
    ]
    [first, *_] = engine.requests
    assert "SEARCH history.txt|tick 0\nno match" in first.messages[-1].content


async def test_bm25_looks_for_what_it_is_told_to_make_of_the_present_step(tmp_path: Path) -> None:
    recall = {"seen": "{word} {number}", "write": "{word} {number}", "query": "{number}"}
    engine, _ = await played(tmp_path, 9, memory="bm25", recall=recall)
    last = engine.requests[8].messages[-1].content
    assert "SEARCH history.txt|2\ntick 2\ntick 2\n# commit" in last


async def test_a_pattern_says_what_is_kept_and_how(tmp_path: Path) -> None:
    _, events = await played(
        tmp_path, memory="full", recall={"seen": "tick {number}", "write": "{number} is past"}
    )
    kept = [event.edit.inserted for event in events if isinstance(event, MemoryChanged)]
    assert kept == [f"{step % 3} is past\n" for step in range(6)]


@pytest.mark.parametrize("memory", ["window", "summary"])
async def test_memory_keeps_within_its_tokens(tmp_path: Path, memory: str) -> None:
    engine, _ = await played(tmp_path, 9, memory=memory, recall={"tokens": 40, "seen": "tick {n}"})
    shown = shown_in(engine, "memo.txt" if memory == "summary" else "history.txt")
    assert max(len(lines) for lines in shown) >= 2
    assert all(ByteCounter().count("\n".join(lines)) <= 40 for lines in shown)


async def test_full_takes_what_the_context_leaves_and_says_what_it_leaves_out(
    tmp_path: Path,
) -> None:
    engine = SpyEngine(scribe)
    session, recorder, _ = make_session(
        tmp_path,
        engine,
        options=AgentOptions(memory="full"),
        renderer=ByteRenderer(),
        context_tokens=400,
    )
    await play(session, CountingGame(30))
    assert not [e for e in recorder.events if isinstance(e, Turn) and e.forced]
    shown = shown_in(engine, "history.txt")
    assert len(shown[3]) == 3
    assert shown[-1][0].endswith("more lines not shown")
    assert len(shown[-1]) - 1 + int(shown[-1][0].split()[1]) == 29
    lengths = [len(request.prompt_ids or ()) for request in engine.requests]
    assert 400 - 64 - 60 < max(lengths) <= 400 - 64


async def test_a_summary_is_the_models_one_text_shown_in_both_routines(tmp_path: Path) -> None:
    engine = SpyEngine(scribe)
    session, recorder, sandbox = make_session(
        tmp_path,
        engine,
        load_scaffold(scaffold_path("v0")),
        options=AgentOptions(memory="summary"),
    )
    await play(session, CountingGame(5))
    assert sandbox.read_text("memo.txt") == "saw tick 0\nsaw tick 1\nsaw tick 2\n"
    assert [info.name for info in sandbox.listing()] == ["memo.txt"]
    assert shown_in(engine, "memo.txt")[4] == ["saw tick 0", "saw tick 1"]
    assert shown_in(engine, "memo.txt", "log")[3] == ["saw tick 0"]
    assert "memo.txt: places and where they are; what has" in engine.requests[0].messages[0].content
    assert all(t.role == "gameplay" for t in recorder.events
               if isinstance(t, Turn) and t.routine is Routine.PLAN)  # fmt: skip
    plans = [r for r in engine.requests if "# plan" in r.messages[1].content]
    assert all("SEARCH" not in r.messages[0].content for r in plans)


async def test_notices_about_files_that_a_summary_has_not_are_left_out(tmp_path: Path) -> None:
    notices = [Notice('lines("notes.txt") >= 0', text="about notes"), Notice("repeated", steps=1)]
    engine = SpyEngine(scribe)
    options = AgentOptions(memory="summary")
    session, _, _ = make_session(tmp_path, engine, make_scaffold(notices=notices), options=options)
    await play(session, CountingGame(3))
    last = read_prompt(engine.requests[-2].messages).notices
    assert last == ["the same action was taken 1 times in a row"]


@pytest.mark.parametrize("dialect", ["tags", "tools"])
async def test_a_rival_is_offered_no_operations_in_plan(tmp_path: Path, dialect: str) -> None:
    for memory in RIVALS:
        engine, _ = await played(tmp_path / memory, memory=memory, dialect=dialect)
        plans = [r for r in engine.requests if "# plan" in r.messages[1].content]
        assert plans
        if dialect == "tools":
            names = {tool["function"]["name"] for request in plans for tool in request.tools}
            assert names == {"commit_action"}
        for request in plans:
            system = request.messages[0].content
            assert not [op for op in READING if f"<|{op}|>" in system]


async def test_knowledge_stands_in_every_prompt_after_what_is_static(tmp_path: Path) -> None:
    for memory in MEMORIES:
        engine, _ = await played(tmp_path / memory, memory=memory, knowledge="a tick is followed")
        systems = {request.messages[0].content for request in engine.requests}
        assert all(system.endswith("\na tick is followed") for system in systems)
        assert len(systems) == (2 if memory in ("files", "blanked", "summary") else 1)


async def test_the_oldest_quarter_of_a_log_that_outgrows_its_file_goes(tmp_path: Path) -> None:
    engine = SpyEngine(scribe)
    session, recorder, sandbox = make_session(
        tmp_path, engine, options=AgentOptions(memory="window")
    )
    sandbox.quota = msgspec.structs.replace(sandbox.quota, file_bytes=400)
    await play(session, CountingGame(60))
    text = sandbox.read_text("history.txt")
    assert 200 < len(text) <= 320
    assert text.endswith("tick 0\n")
    assert {e.cause for e in recorder.events if isinstance(e, MemoryChanged)} == {
        "logged",
        "trimmed",
    }
    held: str | None = None
    for event in recorder.events:
        if isinstance(event, MemoryChanged):
            held = apply_edit(held, event.edit)
    assert held == text


@pytest.mark.parametrize("renderer", [None, ByteRenderer()], ids=["chat", "tokens"])
@pytest.mark.parametrize("memory", RIVALS)
async def test_a_session_killed_after_any_event_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, renderer: ByteRenderer | None, memory: str
) -> None:
    counter = itertools.count()

    async def run(before: list[Event]) -> list[Event]:
        recorder = MemoryRecorder()
        recorder.events = list(before)
        recorder.remember_blobs()
        history = _through_a_journal(tmp_path / f"journal-{next(counter)}", before)
        session, recorder, sandbox = make_session(
            tmp_path / str(next(counter)),
            SpyEngine(scribe),
            recorder=recorder,
            history=history,
            options=AgentOptions(memory=memory, recall=RecallOptions(tokens=60, entries=2)),
            renderer=renderer,
            context_tokens=700 if renderer else 0,
        )
        sandbox.quota = msgspec.structs.replace(sandbox.quota, file_bytes=100)
        await session.start()
        game, action = CountingGame(8), ""
        for action in history.actions if history else ():
            game.act(action)
        while True:
            observation, outcome = game.observe()
            outcome = Outcome(outcome.progression, terminated=outcome.terminated, action=action)
            if outcome.is_final:
                break
            action = await session.step(observation, outcome)
            game.act(action)
        await session.close(outcome, observation)
        return [_stable(event) for event in recorder.events]

    whole = await run([])
    for length in range(1, len(whole)):
        assert await run(whole[:length]) == whole, f"killed after event {length}"


def _through_a_journal(folder: Path, events: list[Event]) -> History | None:
    journal = Journal(folder, leases.acquire(folder, 0))
    for event in events:
        journal.append(event)
    journal.close()
    return recover(folder).history if events else None


def _stable(event: Event) -> Event:
    names = {"seconds", "time"} & set(getattr(event, "__struct_fields__", ()))
    return msgspec.structs.replace(event, **dict.fromkeys(names, 0.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory": "bm24"}, "did you mean 'bm25'"),
        ({"recall": {"tokens": 0}}, "tokens must be at least 1"),
        ({"recall": {"entries": 0}}, "entries must be at least 1"),
        ({"recall": {"write": "{a}"}}, "agent.recall.write needs agent.recall.seen"),
        ({"recall": {"seen": "see {a}", "query": "{b}"}}, r"\{b\} is not in the pattern"),
        ({"recall": {"seen": "see {a}", "write": "{b}"}}, r"\{b\} is not in the pattern"),
    ],
)
def test_what_cannot_be_a_memory_is_told_in_words(fields: dict, message: str) -> None:
    with pytest.raises((UsageError, msgspec.ValidationError), match=message):
        msgspec.convert(fields, AgentOptions)


def test_the_configuration_knows_every_memory() -> None:
    assert all(CHECKS["agent.memory"].accepts(name) for name in MEMORIES)
    assert not CHECKS["agent.memory"].accepts("bm24")


def test_a_policys_name_tells_a_rival_and_its_knowledge() -> None:
    assert AgentOptions().additions == AgentOptions(memory="blanked").additions == []
    [memory, knowledge] = AgentOptions(memory="bm25", knowledge="x").additions
    assert memory == "bm25"
    assert knowledge.startswith("knowledge@")
