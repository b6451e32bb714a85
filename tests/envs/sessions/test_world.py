"""Multi-session tasks: what they promise of seeds, scores, changes and actions."""

from collections import Counter

import gymnasium
import pytest
from support.world_contract import assert_same_in_every_process, assert_takes_anything

from automem.errors import UsageError
from automem_envs.registration import register_worlds
from automem_envs.sessions import SessionsWorld
from automem_envs.sessions.world import FAMILIES

TARGET = {"_target_": "automem_envs.sessions.SessionsWorld", "sessions": 6}
ACTIONS = ["next", "answer cocoa", "go east", "go south", "apply rule 1", "apply lemma 417"]


def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    assert_same_in_every_process(TARGET, [*ACTIONS, "next"])


def test_ten_thousand_arbitrary_strings_do_no_harm() -> None:
    assert_takes_anything(TARGET, ACTIONS)


def messages_of(world: SessionsWorld, seed: int) -> list[str]:
    """Everything that is said to somebody who only goes on."""
    texts = [world.reset(seed=seed)[0]]
    while True:
        text, _, terminated, truncated, _ = world.step("next")
        texts.append(text)
        if terminated or truncated:
            assert not truncated
            return texts


@pytest.mark.parametrize(
    ("family", "sign"),
    [
        ("people", "From now on, "),
        ("people", " asks us to forget "),
        ("building", " is closed from now on."),
        ("building", " was moved to "),
        ("proof", " had a gap; mended, it is lemma "),
        ("codebase", "Review: from now on, "),
    ],
)
def test_in_every_family_facts_change(family: str, sign: str) -> None:
    texts = messages_of(SessionsWorld(sessions=12, families=[family]), seed=1)
    assert any(sign in text for text in texts)


def test_a_forgotten_detail_is_answered_with_unknown() -> None:
    world = SessionsWorld(sessions=40, families=["people"])
    text = world.reset(seed=2)[0]
    forgotten: set[str] = set()
    right = 0
    for _ in range(world.max_steps):
        if " asks us to forget " in text:
            forgotten.add(text.split(" asks us to forget ")[1].split(".\n")[0])
        asked = text.split("What is ")[-1].split("?")[0] if "What is " in text else ""
        text, _, terminated, _, _ = world.step("answer Unknown" if asked in forgotten else "next")
        if asked in forgotten:
            right += "That was right." in text
            assert "That was wrong." not in text
        if terminated:
            break
    assert right >= 3


def test_a_question_about_an_earlier_session_is_not_answered_in_view() -> None:
    """From the second session of a family on, what is asked was told before it."""
    texts = messages_of(SessionsWorld(sessions=4, families=["people"]), seed=5)
    last = [text for text in texts if text.startswith("Session 4: ")]
    told = "\n".join(text for text in last if "Question: " not in text)
    asked = [text.split("What is ")[1].split("?")[0] for text in last if "Question: " in text]
    assert sum(detail not in told for detail in asked) >= len(asked) / 2


def test_each_session_is_scored_and_progression_is_their_mean() -> None:
    world = SessionsWorld(sessions=4, families=["proof"])
    text, info = world.reset(seed=1)
    total, scores = 0.0, []
    while "session_scores" not in info:
        rules = {
            line.split(": ")[1].split(" -> ")[0]: line.split(", ")[1].split(":")[0]
            for line in text.split("\n")
            if line.startswith("In view, ")
        }
        reached = text.split("You have reached ")[-1].split(".\n")[0]
        text, reward, *_, info = world.step(
            f"apply {rules[reached]}" if reached in rules else "next"
        )
        total += reward
        scores += [info["session_score"]] if "session_score" in info else []
    assert scores == info["session_scores"] == [1.0, 0.0, 0.0, 0.0]
    assert info["progression"] == pytest.approx(0.25) == pytest.approx(total)
    assert info["task_scores"] == {"proof": 0.25}
    assert info["stop"] == "all sessions done"


def test_the_score_of_each_family_is_told_whenever_it_changes() -> None:
    world = SessionsWorld(sessions=5, families=["people", "codebase"])
    _, info = world.reset(seed=1)
    latest = info["task_scores"]
    assert latest == {"codebase": 0.0, "people": 0.0}
    families = []
    is_over = False
    while not is_over:
        _, _, is_over, _, info = world.step("answer unknown" if is_asked(world) else "next")
        if "task_scores" in info:
            assert is_over or info["task_scores"] != latest
            latest = info["task_scores"]
        families += [info["family"]] if "session_score" in info else []
        weighted = [latest[name] * count for name, count in counts_of(world).items()]
        assert info["progression"] == pytest.approx(sum(weighted) / 5)
    assert latest["people"] > 0.0
    assert len(families) == 5


def is_asked(world: SessionsWorld) -> bool:
    return world.read("answer unknown") is not None


def counts_of(world: SessionsWorld) -> Counter[str]:
    return Counter(world._titles)


@pytest.mark.parametrize("size", [1, 23, 24, 30])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_played_at_every_size(family: str, size: int) -> None:
    """Defect: from size 24 on, the codebase wanted to change more conventions than there are."""
    assert len(messages_of(SessionsWorld(sessions=6, families=[family], size=size), seed=1)) > 6


def test_what_the_agent_does_changes_nothing_of_later_sessions() -> None:
    idle = messages_of(SessionsWorld(sessions=8, families=["people"]), seed=3)
    world = SessionsWorld(sessions=8, families=["people"])
    world.reset(seed=3)
    busy = [world.step("answer cocoa")[0] for _ in idle[1:]]
    told = [text.split("\n")[1] for text in idle if "Please note" in text]
    assert told
    assert all(any(line in text for text in busy) for line in told)


def test_tens_of_thousands_of_steps_are_a_parameter() -> None:
    world = SessionsWorld(sessions=2000, size=10)
    assert len(messages_of(world, seed=1)) > 15_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"families": ["peeple"]}, "did you mean 'people'"),
        ({"sessions": 1}, "at least 2 sessions"),
        ({"size": 31}, "from 1 to 30"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SessionsWorld(**arguments)


def test_gymnasium_makes_it_by_its_id() -> None:
    register_worlds()
    world = gymnasium.make("automem/Sessions-v0", sessions=3)
    text, info = world.reset(seed=1)
    assert text.startswith("Session 1 of 3")
    assert info["progression"] == 0.0
