"""The session: timing of LOG, the hand-over, limits, and replay of an interrupted step."""

import itertools
from pathlib import Path

import msgspec
import pytest
from support.agent_harness import (
    ByteRenderer,
    CountingGame,
    SpyEngine,
    make_scaffold,
    make_session,
    play,
)

from automem.agent.prompt_view import PromptView
from automem.agent.recorder import History, MemoryRecorder
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import FileSchema, Notice
from automem.engine.protocol import GenerateRequest
from automem.errors import PlayerError, UsageError, WorldError
from automem.rollout import lease as leases
from automem.rollout.journal import Journal
from automem.rollout.recovery import recover
from automem.trace.events import (
    CommitSource,
    Committed,
    Event,
    MemoryChanged,
    Observed,
    OpDone,
    Outcome,
    Role,
    Routine,
    Turn,
)

LOG = "<|APPEND|>notes.txt|saw {seen}<|END|><|DONE|>"
ACT = "<|ACTION|>go<|END|>"


def diligent(view: PromptView, request: GenerateRequest) -> str:
    """Writes down what it sees, searches before it acts."""
    if view.routine is Routine.LOG:
        return LOG.format(seen=view.observation)
    if view.wants_commit or view.turns:
        return f"I know enough. {ACT}"
    return "<|SEARCH|>notes.txt|tick<|END|>"


def events_of(recorder: MemoryRecorder, kind: type) -> list:
    return [event for event in recorder.events if isinstance(event, kind)]


def through_a_journal(folder: Path, events: list[Event]) -> History | None:
    """What a real journal that holds `events` folds to."""
    journal = Journal(folder, leases.acquire(folder, 0))
    for event in events:
        journal.append(event)
    journal.close()
    return recover(folder).history


async def test_nothing_is_written_before_the_world_has_answered(tmp_path: Path) -> None:
    session, recorder, sandbox = make_session(tmp_path, SpyEngine(diligent))
    await play(session, CountingGame(4))
    last_observed = -1
    for event in recorder.events:
        if isinstance(event, Observed):
            last_observed = event.step
        if isinstance(event, OpDone) and event.edit is not None:
            assert event.step == last_observed > 0
    assert sandbox.read_text("notes.txt") == "saw tick 1\nsaw tick 2\nsaw tick 0\nsaw tick 1\n"


async def test_defect_the_terminal_step_never_logged(tmp_path: Path) -> None:
    session, recorder, _ = make_session(tmp_path, SpyEngine(diligent))
    await play(session, CountingGame(2))
    last = events_of(recorder, Turn)[-1]
    assert (last.routine, last.step) == (Routine.LOG, 2)


async def test_step_0_has_no_log_for_nothing_was_done_yet(tmp_path: Path) -> None:
    session, recorder, _ = make_session(tmp_path, SpyEngine(diligent))
    await play(session, CountingGame(2))
    assert {turn.routine for turn in events_of(recorder, Turn) if turn.step == 0} == {Routine.PLAN}


async def test_the_hand_over_cuts_the_commit_and_asks_the_untouched_base(tmp_path: Path) -> None:
    engine = SpyEngine(diligent)
    session, recorder, _ = make_session(tmp_path, engine, adapter="specialist-1")
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "go"
    search, consult, commit = engine.requests
    assert [r.adapter for r in (search, consult, commit)] == ["specialist-1", "specialist-1", None]
    assert [m.role for m in commit.messages] == ["system", "user", "assistant", "user"]
    assert commit.messages[-2].content == "<|SEARCH|>notes.txt|tick<|END|>"
    assert commit.messages[-1].content.endswith("# commit")
    turns = events_of(recorder, Turn)
    assert [t.role for t in turns] == [Role.MEMORY, Role.MEMORY, Role.GAMEPLAY]
    assert [t.kept for t in turns] == [-1, 0, -1]
    (committed,) = events_of(recorder, Committed)
    assert committed.source is CommitSource.MODEL
    assert committed.reasoning == "I know enough."


async def test_operations_run_in_text_order_and_the_next_turn_shows_them(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if view.routine is Routine.LOG and not view.turns:
            return (
                "<|APPEND|>notes.txt|one<|END|><|READ|>notes.txt<|END|>"
                "<|APPEND|>notes.txt|two<|END|><|SERCH|>notes.txt|x<|END|>"
            )
        return "<|DONE|>" if view.routine is Routine.LOG else ACT

    engine = SpyEngine(answer)
    session, recorder, sandbox = make_session(tmp_path, engine)
    await play(session, CountingGame(1))
    second = engine.requests[-1].messages[-1].content
    assert [line for line in second.split("\n") if line in ("one", "two", "ok")] == [
        "ok",
        "one",
        "ok",
    ]
    assert "SEARCH" in second.split("?\n")[1]
    assert sandbox.read_text("notes.txt") == "one\ntwo\n"
    assert [op.op.name for op in events_of(recorder, OpDone)] == ["APPEND", "READ", "APPEND"]


async def test_errors_of_the_last_log_turn_are_shown_to_the_plan_that_follows(
    tmp_path: Path,
) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if view.routine is Routine.LOG:
            return "<|REPLACE|>notes.txt|absent|x<|END|><|DONE|>"
        return ACT

    engine = SpyEngine(answer)
    session, _, _ = make_session(tmp_path, engine)
    await play(session, CountingGame(2))
    plans = [r for r in engine.requests if r.id.startswith("toy-1-0/1/")][1:]
    assert "error" in plans[0].messages[-1].content


async def test_a_plan_that_may_not_write_is_refused_in_words(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return ACT if view.wants_commit or view.turns else "<|WRITE|>notes.txt|x<|END|>"

    session, recorder, sandbox = make_session(tmp_path, SpyEngine(answer))
    await session.start()
    await session.step("tick 0", Outcome(progression=0.0))
    (op,) = events_of(recorder, OpDone)
    assert op.result.text.startswith("error: WRITE is not available here; use READ")
    assert sandbox.read_text("notes.txt") == ""


async def test_too_many_operations_in_a_turn_are_refused_from_the_limit_on(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if view.routine is Routine.LOG:
            return "<|APPEND|>notes.txt|x<|END|>" * 5 + "<|DONE|>"
        return ACT

    session, recorder, sandbox = make_session(
        tmp_path, SpyEngine(answer), make_scaffold(ops_per_turn=3)
    )
    await play(session, CountingGame(1))
    assert sandbox.read_text("notes.txt") == "x\n" * 3
    assert [op.result.status for op in events_of(recorder, OpDone)] == ["ok"] * 3 + ["error"] * 2


async def test_the_gameplay_role_may_read_before_it_commits(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if not view.wants_commit:
            return "nothing to look up"
        return ACT if view.results else "<|READ|>notes.txt<|END|>"

    session, recorder, _ = make_session(tmp_path, SpyEngine(answer))
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "go"
    assert [t.role for t in events_of(recorder, Turn)] == ["memory", "gameplay", "gameplay"]


async def test_defect_fallback_actions_that_are_not_valid_actions(tmp_path: Path) -> None:
    engine = SpyEngine(lambda view, request: "hmm")
    session, recorder, _ = make_session(tmp_path, engine)
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "wait"
    (committed,) = events_of(recorder, Committed)
    assert committed.source is CommitSource.FALLBACK
    turns = events_of(recorder, Turn)
    assert [t.forced for t in turns] == [False, False, False, True]
    assert engine.requests[-1].messages[-1].content.endswith("# commit now")


async def test_defect_a_first_action_that_echoes_the_placeholder_is_no_commit(
    tmp_path: Path,
) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return "<|ACTION|>the action<|END|> " + (ACT if view.wants_commit else "")

    session, _, _ = make_session(tmp_path, SpyEngine(answer))
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "go"


async def test_an_endless_consultation_ends_at_its_limit(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return ACT if view.wants_commit else "<|READ|>notes.txt<|END|>"

    session, recorder, _ = make_session(tmp_path, SpyEngine(answer), make_scaffold(plan_turns=3))
    await session.start()
    await session.step("tick 0", Outcome(progression=0.0))
    assert [t.role for t in events_of(recorder, Turn)] == ["memory"] * 3 + ["gameplay"]


async def test_a_context_that_would_overflow_forces_the_commit(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return ACT if view.wants_commit else "<|READ|>notes.txt<|END|>" + "z" * 40

    session, recorder, _ = make_session(
        tmp_path,
        SpyEngine(answer),
        make_scaffold(plan_turns=50),
        renderer=ByteRenderer(),
        context_tokens=400,
    )
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "go"
    turns = events_of(recorder, Turn)
    assert 2 < len(turns) < 20
    assert turns[-1].forced


async def test_a_first_prompt_that_does_not_fit_is_the_players_failure(tmp_path: Path) -> None:
    session, _, _ = make_session(
        tmp_path, SpyEngine(diligent), renderer=ByteRenderer(), context_tokens=50
    )
    await session.start()
    with pytest.raises(PlayerError, match="window is 50"):
        await session.step("tick 0", Outcome(progression=0.0))


async def test_token_prompts_grow_by_appending_what_was_generated(tmp_path: Path) -> None:
    engine = SpyEngine(diligent)
    session, recorder, _ = make_session(tmp_path, engine, renderer=ByteRenderer())
    await session.start()
    await session.step("tick 0", Outcome(progression=0.0))
    first, second, third = (list(r.prompt_ids or ()) for r in engine.requests)
    generated = list(events_of(recorder, Turn)[0].token_ids)
    assert second[: len(first) + len(generated)] == first + generated
    assert third[: len(second) - 1] == second[:-1]


async def test_one_role_commits_by_itself_without_a_hand_over(tmp_path: Path) -> None:
    engine = SpyEngine(diligent)
    session, recorder, _ = make_session(
        tmp_path, engine, options=AgentOptions(protocol="one_role"), adapter="specialist-1"
    )
    await session.start()
    assert await session.step("tick 0", Outcome(progression=0.0)) == "go"
    assert [t.role for t in events_of(recorder, Turn)] == ["memory", "memory"]
    assert "# commit" not in engine.requests[-1].messages[-1].content


async def test_without_memory_no_file_is_written_read_or_shown(tmp_path: Path) -> None:
    engine = SpyEngine(diligent)
    session, recorder, sandbox = make_session(tmp_path, engine, options=AgentOptions(memory="none"))
    await play(session, CountingGame(3))
    assert not sandbox.listing()
    assert {t.role for t in events_of(recorder, Turn)} == {Role.GAMEPLAY}
    assert all("notes.txt" not in m.content for r in engine.requests for m in r.messages)


async def test_files_are_pruned_to_their_schema_and_shown_in_plan(tmp_path: Path) -> None:
    files = [FileSchema("notes.txt", initial="first\n", keep_last=2, show_last=1)]
    engine = SpyEngine(diligent)
    session, recorder, sandbox = make_session(tmp_path, engine, make_scaffold(files))
    await play(session, CountingGame(4))
    assert sandbox.read_text("notes.txt") == "saw tick 0\nsaw tick 1\n"
    causes = [change.cause for change in events_of(recorder, MemoryChanged)]
    assert causes == ["initial"] + ["prune"] * 3
    plans = [r for r in engine.requests if r.id == "toy-1-0/3/1"]
    assert "# memory notes.txt\nsaw tick 0\n" in plans[0].messages[-1].content + "\n"


async def test_notices_name_what_the_agent_could_see_for_itself(tmp_path: Path) -> None:
    engine = SpyEngine(diligent)
    notices = [Notice("repeated", steps=2), Notice("unchanged", steps=1, text="same again")]
    session, _, _ = make_session(tmp_path, engine, make_scaffold(notices=notices))
    await session.start()
    for _ in range(3):
        await session.step("tick", Outcome(progression=0.0))
    last = next(r for r in reversed(engine.requests) if len(r.messages) == 2)
    assert (
        last.messages[-1]
        .content.split("# notice\n")[1]
        .startswith("the same action was taken 2 times in a row\nsame again")
    )


async def test_sampling_is_seeded_per_call(tmp_path: Path) -> None:
    seeds = []
    for folder in ("a", "b"):
        engine = SpyEngine(diligent)
        session, _, _ = make_session(tmp_path / folder, engine)
        await play(session, CountingGame(3))
        seeds.append([request.seed for request in engine.requests])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == len(seeds[0])


async def test_an_unknown_dialect_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tags, tools"):
        make_session(tmp_path, SpyEngine(diligent), options=AgentOptions(dialect="tag"))


@pytest.mark.parametrize("renderer", [None, ByteRenderer()], ids=["chat", "tokens"])
@pytest.mark.parametrize(("log_turns", "memory"), [(1, "files"), (4, "files"), (4, "blanked")])
async def test_a_session_killed_after_any_event_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, renderer: ByteRenderer | None, log_turns: int, memory: str
) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if view.routine is Routine.LOG:
            if view.turns == 0:
                return f"<|APPEND|>notes.txt|{request.seed}<|END|><|TAIL|>notes.txt|2<|END|>"
            return f"<|UPSERT|>notes.txt|last|{view.observation}<|END|><|BAD|>x<|END|><|DONE|>"
        if view.wants_commit:
            return f"<|ACTION|>go {request.seed % 7}<|END|>"
        return "<|READ|>notes.txt<|END|>" if view.turns < 2 else "ready"

    scaffold = make_scaffold([FileSchema("notes.txt", keep_last=4)], log_turns=log_turns)
    counter = itertools.count()

    async def run(history_events: list | None) -> list:
        recorder = MemoryRecorder()
        history = None
        if history_events is not None:
            recorder.events = list(history_events)
            recorder.remember_blobs()
            history = through_a_journal(tmp_path / f"journal-{next(counter)}", history_events)
        session, recorder, _ = make_session(
            tmp_path / str(next(counter)),
            SpyEngine(answer),
            scaffold,
            recorder=recorder,
            history=history,
            options=AgentOptions(memory=memory),
            renderer=renderer,
        )
        game = CountingGame(3)
        observation, outcome = game.observe()
        await session.start()
        action = ""
        for action in history.actions if history else ():
            game.act(action)
        while True:
            observation, outcome = game.observe()
            outcome = Outcome(
                progression=outcome.progression, terminated=outcome.terminated, action=action
            )
            if outcome.is_final:
                break
            action = await session.step(observation, outcome)
            game.act(action)
        await session.close(outcome, observation)
        return [_stable(event) for event in recorder.events]

    whole = await run(None)
    for length in range(1, len(whole)):
        assert await run(whole[:length]) == whole, f"killed after event {length}"


def _stable(event: Event) -> Event:
    """Without the fields that clocks decide."""
    names = {"seconds", "time"} & set(getattr(event, "__struct_fields__", ()))
    return msgspec.structs.replace(event, **dict.fromkeys(names, 0.0))


async def test_a_world_that_does_not_replay_is_reported(tmp_path: Path) -> None:
    session, recorder, _ = make_session(tmp_path / "a", SpyEngine(diligent))
    await session.start()
    await session.step("tick 0", Outcome(progression=0.0))
    events = recorder.events[:-1]
    history = through_a_journal(tmp_path / "journal", events)
    again, _, _ = make_session(tmp_path / "b", SpyEngine(diligent), history=history)
    with pytest.raises(WorldError, match="did not replay"):
        await again.step("tick 1", Outcome(progression=0.0))
