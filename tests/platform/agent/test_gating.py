"""When to remember: what a gate decides is done, is on record, and is never what an episode dies
of."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.agent_harness import CountingGame, SpyEngine, make_session, play
from support.plain_gate import save_gate
from support.toy_world import toy_spec

from automem import cli
from automem.agent.gating.decision import EVERYTHING, Decision, GateOptions, Question
from automem.agent.gating.exported import GateError
from automem.agent.gating.features import INDEX, NAMES, features
from automem.agent.gating.keeper import FALLBACK, check_gate, gate_label, make_gate, with_gate
from automem.agent.prompt_view import PromptView
from automem.agent.recorder import LastStep
from automem.agent.roles import AgentOptions
from automem.engine.protocol import GenerateRequest
from automem.errors import UsageError
from automem.rollout.chain import journal_path, read_events
from automem.rollout.run import resume_run, run_rollout
from automem.trace.compare import first_difference
from automem.trace.events import Event, Failed, Gated, Observed, Outcome, Routine, Turn

SHARES = {"log": [0.3, 0.3, 0.4], "consult": [0.3, 0.3, 0.4]}


def busy(view: PromptView, request: GenerateRequest) -> str:
    """Uses every turn that it is given, and commits when it has to."""
    if view.wants_commit:
        return "<|ACTION|>go<|END|>"
    if view.routine is Routine.LOG:
        return f"<|APPEND|>notes.txt|saw {view.observation}<|END|>"
    return "<|READ|>notes.txt<|END|>"


def played(folder: Path, **options: Any) -> list[Event]:
    session, recorder, sandbox = make_session(
        folder, SpyEngine(busy), options=AgentOptions(**options)
    )
    asyncio.run(play(session, CountingGame(4)))
    sandbox.close()
    return recorder.events


def turns_of(events: list[Event], routine: Routine, step: int, role: str = "memory") -> int:
    return sum(
        isinstance(event, Turn) and (event.routine, event.step, event.role) == (routine, step, role)
        for event in events
    )


def gates_in(events: list[Event]) -> list[Gated]:
    return [event for event in events if isinstance(event, Gated)]


def test_without_a_gate_nothing_is_asked_or_recorded(tmp_path: Path) -> None:
    events = played(tmp_path)
    assert not gates_in(events)
    assert turns_of(events, Routine.LOG, 1) == 4


def test_always_does_what_no_gate_does(tmp_path: Path) -> None:
    with_gate = [e for e in played(tmp_path / "a", gate="always") if not isinstance(e, Gated)]
    without = played(tmp_path / "b")
    assert [type(event) for event in with_gate] == [type(event) for event in without]
    assert [e.completion for e in with_gate if isinstance(e, Turn)] == [
        e.completion for e in without if isinstance(e, Turn)
    ]


def test_never_leaves_the_commit_and_the_terminal_log(tmp_path: Path) -> None:
    events = played(tmp_path, gate="never")
    assert [turns_of(events, Routine.LOG, step) for step in range(1, 4)] == [0, 0, 0]
    assert turns_of(events, Routine.LOG, 4) == 4
    assert all(turns_of(events, Routine.PLAN, step) == 0 for step in range(4))
    assert all(turns_of(events, Routine.PLAN, step, "gameplay") == 1 for step in range(4))


def test_brief_is_one_model_call(tmp_path: Path) -> None:
    events = played(tmp_path, gate="brief")
    assert [turns_of(events, Routine.LOG, step) for step in range(1, 4)] == [1, 1, 1]
    assert [turns_of(events, Routine.PLAN, step) for step in range(4)] == [1, 1, 1, 1]


def test_a_decision_is_on_record_after_the_answer_of_the_world_and_before_any_turn(
    tmp_path: Path,
) -> None:
    events = played(tmp_path, gate="every_k", gating=GateOptions(every=2))
    for step in range(4):
        own = [type(e) for e in events if getattr(e, "step", None) == step]
        first = own.index(Observed)
        assert own[first + 1] is Gated
        assert Turn not in own[:first]
    assert [gate.log for gate in gates_in(events)] == ["full", "skip", "full", "skip"]


def test_random_decisions_follow_from_the_seed(tmp_path: Path) -> None:
    gating = msgspec.convert(SHARES, GateOptions)
    first = gates_in(played(tmp_path / "a", gate="random", gating=gating))
    assert first == gates_in(played(tmp_path / "b", gate="random", gating=gating))


@pytest.mark.parametrize("share", [0.2, 0.45, 0.5, 0.55, 0.8, 0.97])
def test_a_gated_journal_cut_anywhere_goes_on_to_the_same_trace(
    tmp_path: Path, share: float
) -> None:
    spec = toy_spec(seeds=[0], agent={"gate": "random", "gating": SHARES})
    assert run_rollout(spec, tmp_path / "whole").is_complete
    assert run_rollout(spec, tmp_path / "cut").is_complete
    folder = tmp_path / "cut/episodes/toy-0-0"
    path = journal_path(folder, 1)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    (folder / "episode.json").unlink()
    assert resume_run(tmp_path / "cut").is_complete
    whole = read_events(tmp_path / "whole/episodes/toy-0-0")
    resumed = read_events(folder)
    assert first_difference(resumed, whole) == ""
    assert gates_in(resumed) == gates_in(whole)
    assert {gate.log for gate in gates_in(whole)} == {"skip", "brief", "full"}


def test_a_missing_gate_costs_nothing_but_one_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = played(tmp_path / "memory", gate=str(tmp_path / "gone"))
    [failed] = [event for event in events if isinstance(event, Failed)]
    assert failed.boundary == "gate"
    assert failed.is_infrastructure
    assert "every step has all its memory work" in failed.error
    assert len([r for r in caplog.records if "gate" in r.message]) == 1
    assert {gate.by for gate in gates_in(events)} == {FALLBACK}
    assert [turns_of(events, Routine.LOG, step) for step in range(1, 4)] == [4, 4, 4]


def test_tables_and_show_tell_what_the_gate_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_rollout(toy_spec(seeds=[1], agent=AgentOptions(gate="never")), run).is_complete
    sql = "select distinct gate, gate_log, gate_consult from steps where gate is not null"
    assert cli.main(["query", str(run), sql, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row == {"gate": "never", "gate_log": "skip", "gate_consult": "skip"}
    assert cli.main(["show", str(run), "toy-1-0", "--step", "1"]) == 0
    assert "gate never: log skip, consult skip" in capsys.readouterr().out


class Fragile:
    """A gate that stands two steps."""

    name = "fragile"

    def decide(self, question: Question) -> Decision:
        if question.step == 2:
            raise ZeroDivisionError("broken inside")
        return Decision(*[type(EVERYTHING.log).SKIP] * 2)


def test_a_gate_that_raises_is_given_up_for_the_rest_of_the_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automem.agent.gating.keeper.make_gate", lambda *_: Fragile())
    events = played(tmp_path, gate="any")
    assert [gate.by for gate in gates_in(events)] == ["fragile", "fragile", FALLBACK, FALLBACK]
    assert [gate.log for gate in gates_in(events)] == ["skip", "skip", "full", "full"]
    assert sum(isinstance(event, Failed) for event in events) == 1


def test_a_broken_file_is_told_before_a_run_and_survived_in_one(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_bytes(msgspec.json.encode({"features": NAMES}))
    (tmp_path / "gate.pt").write_bytes(b"no TorchScript")
    with pytest.raises(UsageError, match=r"agent\.gate: gate\.pt is no TorchScript file"):
        check_gate(str(tmp_path), GateOptions())
    events = played(tmp_path / "memory", gate=str(tmp_path))
    assert sum(isinstance(event, Failed) for event in events) == 1


def test_an_exported_gate_decides_and_is_named_by_its_digest(tmp_path: Path) -> None:
    folder = save_gate(tmp_path / "gate", (1, 0, 0, 0, 1, 0))
    events = played(tmp_path / "memory", gate=str(folder))
    assert {(g.log, g.consult) for g in gates_in(events)} == {("skip", "brief")}
    assert {g.by for g in gates_in(events)} == {gate_label(str(folder), GateOptions())}
    assert not any(isinstance(event, Failed) for event in events)


def test_what_is_equally_good_costs_no_memory(tmp_path: Path) -> None:
    gate = make_gate(str(save_gate(tmp_path / "gate", (0,) * 6)), GateOptions())
    assert gate.decide(Question(0, 0, (0.0,) * len(NAMES))) == EVERYTHING


def test_a_gate_of_other_features_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_bytes(msgspec.json.encode({"features": ["one"]}))
    (tmp_path / "gate.pt").write_bytes(b"")
    with pytest.raises(GateError, match="trained on other features"):
        make_gate(str(tmp_path), GateOptions())


def test_options_of_a_rule_that_make_no_sense_are_told() -> None:
    with pytest.raises(UsageError, match=r"agent\.gating\.log must be three shares"):
        with_gate({"gate": "random", "gating": {"log": [0.5, 0.5, 0.5]}})
    with pytest.raises(UsageError, match=r"agent\.gating"):
        with_gate({"gate": "every_k", "gating": {"every": "often"}})


def test_a_misspelt_rule_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'always'"):
        check_gate("alway", GateOptions())


@pytest.mark.parametrize("other", [{"protocol": "one_role"}, {"memory": "none"}])
def test_where_there_is_nothing_to_decide_a_gate_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"agent\.gate needs"):
        AgentOptions(gate="always", **other)


def test_the_policy_is_named_by_its_gate() -> None:
    assert AgentOptions(gate="every_k").additions == ["gate@every_4"]
    assert gate_label("nowhere", GateOptions()) == "gate@missing"
    assert AgentOptions().additions == []


# What a gate sees


def seen(observation: str, *before: str, **more: Any) -> dict[str, float]:
    recent = [
        LastStep(step, text, f"act {step % 2}", Outcome(0.0)) for step, text in enumerate(before)
    ]
    values = features(
        len(recent), 10, observation, Outcome(**{"progression": 0.0, **more}), recent, 9
    )
    return {name: values[index] for name, index in INDEX.items()}


def test_every_feature_has_a_name_and_a_bound() -> None:
    values = seen("health 9 food 2\n" + "new words " * 50, "old\nlines", progression=1.0)
    assert len(features(1, 10, "a", Outcome(0.0), [], 9)) == len(values) == len(NAMES)
    assert all(-1.0 <= value <= 8.0 for value in values.values())


def test_what_was_seen_before_is_less_novel() -> None:
    new = seen("05 shows owl first\ndown 01", "06 shows fox miss\ndown 01")
    known = seen("05 shows owl first\ndown 01", "05 shows owl miss\ndown 01", "x\ndown 01")
    assert new["novelty_first"] > 0.5 > known["novelty_first"]
    assert new["changed"] == 1.0
    assert seen("same", "same")["changed"] == 0.0


def test_stuck_counters_count() -> None:
    values = seen("wall", "wall", "wall", "wall", "wall")
    assert values["same_observation"] == 0.5
    assert values["oscillating"] == 1.0


def test_vitals_are_read_where_there_are_some() -> None:
    values = seen("health 3 food 8 drink 9", "health 4 food 8 drink 9")
    assert (values["vital"], values["vital_fell"]) == (0.3333, 1.0)
    assert seen("a card")["vital"] == 1.0


def test_what_memory_work_was_done_is_seen() -> None:
    gated = Gated(0, "skip", "full", "x")
    recent = [LastStep(0, "a", "go", Outcome(0.0), gated, found=0)]
    values = features(1, 10, "b", Outcome(0.0), recent, 0)
    assert values[INDEX["since_log"]] > 0.0 == values[INDEX["since_consult"]]
    assert values[INDEX["found_nothing"]] == 1.0
