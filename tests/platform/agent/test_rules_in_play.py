"""What a scaffold declares, as a session carries it out."""

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agent_harness import TEMPLATES, CountingGame, SpyEngine, make_scaffold, make_session
from support.agent_harness import play as play_game

from automem.agent.prompt_view import PromptView, read_prompt
from automem.agent.pruning import surplus_chars, without_dropped
from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import (
    FileKind,
    FileSchema,
    Notice,
    PruneRule,
    RoutineSchema,
    Scaffold,
)
from automem.engine.protocol import GenerateRequest
from automem.memory.sandbox import Sandbox
from automem.rollout import lease as leases
from automem.rollout.journal import Journal
from automem.rollout.recovery import recover
from automem.trace.events import (
    CommitSource,
    Committed,
    MemoryChanged,
    OpDone,
    Outcome,
    Routine,
    Turn,
)

ACT = "<|ACTION|>go<|END|>"
Answer = Callable[[PromptView, GenerateRequest], str]


def revised(scaffold: Scaffold, **changes: object) -> Scaffold:
    return Scaffold(msgspec.structs.replace(scaffold.schema, **changes), TEMPLATES, scaffold.hooks)


def logging(text: str) -> Answer:
    """A player whose LOG always says `text`."""
    return lambda view, request: f"{text}<|DONE|>" if view.routine is Routine.LOG else ACT


async def one_log(
    tmp_path: Path, file: FileSchema, text: str, observation: str = "tick"
) -> tuple[str, MemoryRecorder, Sandbox]:
    """The first operation's result after one LOG that says `text`; what was recorded; memory."""
    session, recorder, sandbox = make_session(
        tmp_path, SpyEngine(logging(text)), make_scaffold([file])
    )
    await session.start()
    await session.step("tick", Outcome(progression=0.0))
    await session.step(observation, Outcome(progression=0.0))
    done = [event for event in recorder.events if isinstance(event, OpDone)]
    return done[0].result.text, recorder, sandbox


LOG_FILE = FileSchema("f.txt", kind=FileKind.LOG, initial="a\n")
CHECKLIST = FileSchema("f.txt", kind=FileKind.CHECKLIST)
KEYED = FileSchema("f.txt", kind=FileKind.KEYED, key="{x},{y}", separator=" = ")


@pytest.mark.parametrize(
    ("file", "op", "result"),
    [
        (LOG_FILE, "<|APPEND|>f.txt|b<|END|>", "ok"),
        (LOG_FILE, "<|WRITE|>f.txt|b<|END|>", "error: f.txt only grows; APPEND adds to it"),
        (LOG_FILE, "<|DELETE|>f.txt<|END|>", "error: f.txt only grows; APPEND adds to it"),
        (LOG_FILE, "<|UPSERT|>f.txt|a|b<|END|>", "error: f.txt only grows; APPEND adds to it"),
        (LOG_FILE, "<|READ|>f.txt<|END|>", "a"),
        (CHECKLIST, "<|APPEND|>f.txt|[ ] wood<|END|>", "ok"),
        (CHECKLIST, "<|APPEND|>f.txt|wood<|END|>", "error: lines of f.txt are items: `[ ] text`, "
         "or `[x] text` once it is done"),
        (KEYED, "<|UPSERT|>f.txt|3,4|tree<|END|>", "ok"),
        (KEYED, "<|UPSERT|>f.txt|the tree|3,4<|END|>",
         "error: a key of f.txt has the form {x},{y}"),
        (KEYED, "<|APPEND|>f.txt|3,4 = tree<|END|>", "ok"),
        (KEYED, "<|APPEND|>f.txt|3,4 tree<|END|>", "error: lines of f.txt are `key = text`"),
        (KEYED, "<|APPEND|>own.txt|anything<|END|>", "ok"),
    ],
)  # fmt: skip
async def test_operations_that_break_a_files_kind_are_refused_in_words(
    tmp_path: Path, file: FileSchema, op: str, result: str
) -> None:
    text, recorder, _ = await one_log(tmp_path, file, op)
    assert text == result
    shown = [event for event in recorder.events if isinstance(event, OpDone)]
    assert (shown[0].edit is not None) == (text == "ok")


@pytest.mark.parametrize(
    ("file", "observation", "left"),
    [
        (FileSchema("f.txt", keep_last=2), "", "17 owl\n05 owl\n"),
        (FileSchema("f.txt", keep_bytes=15), "", "17 owl\n05 owl\n"),
        (FileSchema("f.txt", keep_bytes=3), "", ""),
        (FileSchema("f.txt", drop_repeated=True), "", "12 cat\n17 owl\n05 owl\n"),
        (
            FileSchema("f.txt", kind=FileKind.KEYED, separator=" ", drop_repeated=True),
            "",
            "12 cat\n17 owl\n05 owl\n",
        ),
        (
            FileSchema("f.txt", drop=(PruneRule("{card} shows {rank} match", "{rank}"),)),
            "05 shows owl match\npending none",
            "12 cat\n",
        ),
        (
            FileSchema("f.txt", drop=(PruneRule("{card} shows {rank} match", "{card}"),)),
            "05 shows owl match",
            "12 cat\n17 owl\n",
        ),
        (
            FileSchema("f.txt", drop=(PruneRule("{card} shows {rank} match", "{rank}"),)),
            "05 shows owl miss",
            "05 owl\n12 cat\n17 owl\n05 owl\n",
        ),
    ],
)
async def test_lines_of_no_more_use_are_pruned_after_log(
    tmp_path: Path, file: FileSchema, observation: str, left: str
) -> None:
    ops = "".join(
        f"<|APPEND|>f.txt|{line}<|END|>" for line in ("05 owl", "12 cat", "17 owl", "05 owl")
    )
    _, recorder, sandbox = await one_log(tmp_path, file, ops, observation)
    assert sandbox.read_text("f.txt") == left
    causes = [event.cause for event in recorder.events if isinstance(event, MemoryChanged)]
    assert set(causes) <= {"initial", "prune"}


async def test_items_that_are_done_leave_a_checklist(tmp_path: Path) -> None:
    file = msgspec.structs.replace(CHECKLIST, drop_done=True)
    ops = "<|APPEND|>f.txt|[ ] wood<|END|><|APPEND|>f.txt|[x] stone<|END|>"
    _, _, sandbox = await one_log(tmp_path, file, ops)
    assert sandbox.read_text("f.txt") == "[ ] wood\n"


@given(
    st.lists(st.sampled_from(["05 owl", "5: cat", "05 cat", "", "[x] a", "é owl"]), max_size=12),
    st.integers(0, 4),
    st.integers(0, 30),
    st.booleans(),
)
def test_pruning_twice_prunes_once(
    lines: list[str], keep_last: int, keep_bytes: int, drop_repeated: bool
) -> None:
    file = FileSchema(
        "f.txt",
        kind=FileKind.KEYED,
        separator=" ",
        keep_last=keep_last,
        keep_bytes=keep_bytes,
        drop_repeated=drop_repeated,
        drop=(PruneRule("saw {what}", "{what}"),),
    )

    def prune(text: str) -> str:
        kept = without_dropped(file, text, "saw owl")
        return kept[surplus_chars(file, kept) :]

    once = prune("\n".join(lines))
    assert prune(once) == once
    assert "owl" not in once
    assert not keep_bytes or len(once.encode()) <= keep_bytes


async def test_an_operation_beyond_its_limit_in_a_routine_is_refused(tmp_path: Path) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return ACT if view.wants_commit else "<|SEARCH|>notes.txt|x<|END|>"

    plan = RoutineSchema(("SEARCH", "READ"), 4, {"SEARCH": 2})
    session, recorder, _ = make_session(
        tmp_path, SpyEngine(answer), revised(make_scaffold(), plan=plan)
    )
    await session.start()
    for _ in range(2):
        await session.step("tick", Outcome(progression=0.0))
    by_step: dict[int, list[str]] = {}
    for event in recorder.events:
        if isinstance(event, OpDone):
            by_step.setdefault(event.step, []).append(event.result.text)
    refusal = "error: SEARCH can be used 2 times in one PLAN; go on with what you know"
    assert by_step[0] == ["no match", "no match", refusal, refusal]
    assert by_step[1][-4:] == by_step[0]


def hasty(view: PromptView, request: GenerateRequest) -> str:
    """Reads and commits in one turn, as long as it has not seen what it read."""
    if view.routine is Routine.LOG:
        return "<|APPEND|>notes.txt|05 owl<|END|><|DONE|>"
    if view.results:
        return f"<|ACTION|>flip {len(view.results[-1].lines)}<|END|>"
    return "<|SEARCH|>notes.txt|owl<|END|><|ACTION|>flip blindly<|END|>"


@pytest.mark.parametrize("protocol", ["two_roles", "one_role"])
async def test_a_commit_in_the_turn_of_a_read_waits_for_the_results(
    tmp_path: Path, protocol: str
) -> None:
    for defers, action in ((True, "flip 1"), (False, "flip blindly")):
        session, recorder, _ = make_session(
            tmp_path / str(defers),
            SpyEngine(hasty),
            revised(make_scaffold(), defer_commit=defers),
            options=AgentOptions(protocol=protocol),
        )
        await session.start()
        await session.step("tick", Outcome(progression=0.0))
        second = await session.step("tick", Outcome(progression=0.0))
        assert second == ("flip 1" if protocol == "two_roles" else action)
        turns = [event for event in recorder.events if isinstance(event, Turn) and event.step == 1]
        consulting = [turn for turn in turns if turn.role == "memory" and turn.routine == "plan"]
        search = len("<|SEARCH|>notes.txt|owl<|END|>")
        if protocol != "two_roles":
            assert consulting[0].kept == (search if defers else -1)


@pytest.mark.parametrize("turns", [1, 3])
async def test_a_commit_in_the_last_turn_waits_for_nothing(tmp_path: Path, turns: int) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        return "<|READ|>notes.txt<|END|>" + ACT

    session, recorder, _ = make_session(
        tmp_path,
        SpyEngine(answer),
        revised(make_scaffold(), defer_commit=True, commit_turns=turns),
    )
    await session.start()
    assert await session.step("tick", Outcome(progression=0.0)) == "go"
    (committed,) = [event for event in recorder.events if isinstance(event, Committed)]
    assert committed.source is (CommitSource.MODEL if turns == 1 else CommitSource.FORCED)


async def test_files_are_shown_in_the_routines_that_their_schema_names(tmp_path: Path) -> None:
    engine = SpyEngine(logging("<|APPEND|>notes.txt|b<|END|>"))
    file = FileSchema("notes.txt", initial="a\n", show_last=2, show_in=("log",))
    templates = {**TEMPLATES, "log": TEMPLATES["log"] + SHOWN}
    session, _, _ = make_session(
        tmp_path, engine, Scaffold(make_scaffold([file]).schema, templates)
    )
    await play_game(session, CountingGame(2))
    shown = {view.routine: view.shown for view in map(_view, engine.requests)}
    assert shown[Routine.LOG] == {"notes.txt": ["a", "b"]}
    assert shown[Routine.PLAN] == {}


SHOWN = "{% for file in shown %}\n# memory {{ file.name }}\n{{ file.text }}\n{% endfor %}\n"


def _view(request: GenerateRequest) -> PromptView:
    return read_prompt(request.messages)


async def test_declared_notices_appear_where_they_hold(tmp_path: Path) -> None:
    notices = [
        Notice('number("health {n}") < 4', text='health is down to {number("health {n}")}'),
        Notice('lines("notes.txt") > 1', text="tidy up notes.txt", routines=("plan",)),
        Notice('sees("health") and number("mana {n}") < 9', text="never"),
        Notice('did("go") and repeated_for >= 2', text="{repeated_for} times {action}"),
    ]
    engine = SpyEngine(logging("<|APPEND|>notes.txt|b<|END|>"))
    session, _, _ = make_session(tmp_path, engine, make_scaffold(notices=notices))
    await session.start()
    for health in (9, 3, 5):
        await session.step(f"health {health}", Outcome(progression=0.0))
    said = [view.notices for view in map(_view, engine.requests) if view.routine is Routine.PLAN]
    first_turns = [lines for lines, _ in itertools.groupby(said)]
    assert first_turns == [
        [],
        ["health is down to 3"],
        ["tidy up notes.txt", "2 times go"],
    ]


async def test_a_killed_session_with_every_rule_goes_on_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    def answer(view: PromptView, request: GenerateRequest) -> str:
        if view.routine is Routine.LOG:
            return (
                f"<|APPEND|>notes.txt|{request.seed % 5} owl<|END|>"
                f"<|APPEND|>notes.txt|{view.observation}<|END|><|TAIL|>notes.txt|1<|END|>"
            )
        return f"<|TAIL|>notes.txt|2<|END|><|ACTION|>go {len(view.results)}<|END|>"

    file = FileSchema(
        "notes.txt",
        kind=FileKind.KEYED,
        separator=" ",
        drop=(PruneRule("tick {n}", "{n} owl"),),
        drop_repeated=True,
        keep_last=3,
        show_last=2,
    )
    base = make_scaffold([file], notices=[Notice('lines("notes.txt") > 1', text="long")])
    plan = RoutineSchema(("TAIL",), 3, {"TAIL": 2})
    scaffold = revised(base, defer_commit=True, plan=plan)
    counter = itertools.count()

    async def run(events: list) -> list:
        recorder, history = MemoryRecorder(), None
        if events:
            recorder.events = list(events)
            recorder.remember_blobs()
            folder = tmp_path / f"journal-{next(counter)}"
            journal = Journal(folder, leases.acquire(folder, 0))
            for event in events:
                journal.append(event)
            journal.close()
            history = recover(folder).history
        session, recorder, sandbox = make_session(
            tmp_path / str(next(counter)),
            SpyEngine(answer),
            scaffold,
            recorder=recorder,
            history=history,
        )
        game = CountingGame(4)
        await session.start()
        for action in history.actions if history else ():
            game.act(action)
        observation, outcome = game.observe()
        while not outcome.is_final:
            game.act(await session.step(observation, outcome))
            observation, outcome = game.observe()
        await session.close(outcome, observation)
        return [*map(_without_clocks, recorder.events), sandbox.read_text("notes.txt")]

    whole = await run([])
    assert any(isinstance(event, MemoryChanged) and event.cause == "prune" for event in whole)
    for length in range(1, len(whole) - 1):
        assert await run(whole[:length]) == whole, f"killed after event {length}"


def _without_clocks(event: object) -> object:
    names = {"seconds", "time"} & set(getattr(event, "__struct_fields__", ()))
    return msgspec.structs.replace(event, **dict.fromkeys(names, 0.0))
