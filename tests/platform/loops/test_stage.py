"""Arms: who plays, what is told when it cannot, and nothing played twice."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.loop_parts import small_stage, small_template, specialist

from automem.commands.plan import spec_from
from automem.config import compose
from automem.errors import UsageError
from automem.loops.recipes import Specialist
from automem.loops.stage import Arm, Stage, merged, read_arm
from automem.rollout.journal import read_events
from automem.rollout.run_dir import read_run
from automem.rollout.spec import RolloutSpec
from automem.seeds import seeds_from
from automem.trace.events import OpDone, Role, Turn

SEEDS = seeds_from("report", 2)
PERFECT = {"_target_": "automem_envs.concentration.players.PerfectMemoryPlayer"}


def planned(folder: Path, arm: Arm, made: Specialist | None = None) -> RolloutSpec:
    """What an arm's rollout is."""
    small_stage().play(folder, arm, made, SEEDS[:1], "an arm")
    return read_run(folder).spec


def events_of(folder: Path, kind: type[Any]) -> list[Any]:
    [episode] = (folder / "episodes").iterdir()
    return [event for event in read_events(episode) if isinstance(event, kind)]


def test_an_arm_that_names_a_part_of_an_option_leaves_the_rest_as_it_is() -> None:
    base = {"memory": "files", "recall": {"tokens": 77, "entries": 10}}
    changes = {"memory": "window", "recall": {"entries": 3}}
    assert merged(base, changes) == {"memory": "window", "recall": {"tokens": 77, "entries": 3}}


def test_a_misspelt_field_of_recall_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'entries'"):
        read_arm({"agent": {"memory": "window", "recall": {"entires": 3}}}, "rivals.x")


def test_an_arm_is_a_run_like_any_other_and_is_not_played_again(tmp_path: Path) -> None:
    folder = tmp_path / "arm"
    first = small_stage().play(folder, Arm(), None, SEEDS, "base")
    assert sorted(first.progressions) == SEEDS
    assert first.summary["pending"] == 0
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")}
    again = small_stage().play(folder, Arm(), None, SEEDS, "base")
    assert again.progressions == first.progressions
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")} == files


def test_a_whole_model_keeps_memory_while_the_base_commits(tmp_path: Path) -> None:
    spec = planned(tmp_path, Arm(), specialist("good"))
    assert spec.engines[spec.memory.engine].target["model"] == "good"
    assert spec.engines[spec.gameplay.engine].target["model"] == "base"
    assert spec.memory.adapter is None


def test_an_adapter_goes_into_the_bases_engine_and_never_to_the_gameplay_role() -> None:
    made = msgspec.structs.replace(specialist("good", "v1"), path="/adapters/v1", is_adapter=True)
    spec = small_stage()._spec(Arm(), made, SEEDS)
    assert list(spec.engines) == ["base"]
    assert spec.engines["base"].adapters == {"v1": "/adapters/v1"}
    assert (spec.memory.adapter, spec.gameplay.adapter) == ("v1", None)


def test_a_scripted_player_keeps_memory_or_plays_alone(tmp_path: Path) -> None:
    beside = planned(tmp_path / "beside", Arm(memory="player", player=PERFECT))
    assert (beside.memory.engine, beside.gameplay.engine) == ("player", "base")
    arm = Arm(memory="player", player=PERFECT, plays_alone=True)
    alone = planned(tmp_path / "alone", arm)
    assert list(alone.engines) == ["player"]
    assert (alone.memory.engine, alone.gameplay.engine) == ("player", "player")


def test_changes_of_sampling_and_agent_reach_both_roles(tmp_path: Path) -> None:
    arm = read_arm({"sampling": {"temperature": 0.0}, "agent": {"memory": "none"}}, "arm")
    spec = planned(tmp_path, arm, specialist("good"))
    assert spec.memory.sampling == spec.gameplay.sampling == {"temperature": 0.0}
    assert events_of(tmp_path, OpDone) == []
    assert {turn.role for turn in events_of(tmp_path, Turn)} == {Role.GAMEPLAY}


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": {"temperature": 0.0}},
        {"agent": {"memory": "blanked"}},
        {"agent": {"protocol": "one_role"}},
        {"memory": "player", "player": PERFECT},
    ],
)
def test_an_arm_that_was_begun_otherwise_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    planned(tmp_path, Arm())
    with pytest.raises(UsageError, match="begun with other settings"):
        small_stage().play(tmp_path, read_arm(change, "arm"), None, SEEDS[:1], "base")


def test_an_arm_of_another_world_or_other_decks_is_refused(tmp_path: Path) -> None:
    planned(tmp_path, Arm())
    with pytest.raises(UsageError, match="begun with other settings"):
        small_stage().play(tmp_path, Arm(), None, SEEDS, "base")
    template = msgspec.structs.replace(small_template(), max_steps=3)
    with pytest.raises(UsageError, match="begun with other settings"):
        Stage(template, None, is_shown=False).play(tmp_path, Arm(), None, SEEDS[:1], "base")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"memry": "base"}, "no field of report.arms.x 'memry'; did you mean 'memory'"),
        ({"sampling": {"temprature": 0}}, "x.sampling 'temprature'; did you mean 'temperature'"),
        ({"sampling": {"temperature": "hot"}}, "report.arms.x: "),
        ({"agent": {"memori": "none"}}, "x.agent 'memori'; did you mean 'memory'"),
        ({"agent": {"memory": "blank"}}, "no agent.memory 'blank'; did you mean 'blanked'"),
        ({"plays_alone": "yes"}, "$.plays_alone"),
        ({"memory": "player"}, "report.arms.x: an arm with memory=player needs a player"),
        ({"player": PERFECT}, "report.arms.x: an arm with memory=player needs a player"),
        ({"sampling": 3}, "report.arms.x: "),
    ],
)
def test_what_is_wrong_with_an_arm_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        read_arm(fields, "report.arms.x")
    assert told in str(error.value)


def test_a_script_keeps_memory_for_a_model_that_acts_by_tokens(tmp_path: Path) -> None:
    words = ["experiment=embedded", "rollout.workers=0", "env.world.cards=8"]
    template = msgspec.structs.replace(spec_from(compose(overrides=words)), max_steps=8)
    arm = Arm(memory="player", player=PERFECT)
    played = Stage(template, None, is_shown=False).play(tmp_path / "arm", arm, None, SEEDS[:1], "x")
    assert played.summary["pending"] == 0
    turns = events_of(tmp_path / "arm", Turn)
    assert {turn.role for turn in turns if turn.token_ids is not None} == {Role.GAMEPLAY}
    assert all(bool(turn.prompt_ids) == (turn.role is Role.GAMEPLAY) for turn in turns)
    assert any(op.op.name == "SEARCH" for op in events_of(tmp_path / "arm", OpDone))
