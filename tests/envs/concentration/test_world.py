"""Concentration as a world."""

import re

import pytest

from automem.errors import UsageError
from automem.world import World
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.ranks import ANIMALS, COLOURS, MAX_CARDS


def deck_of(seed: int, cards: int = 8) -> dict[str, str]:
    """Every card's rank, found by flipping; matches end up out of the way."""
    world = ConcentrationWorld(cards=cards, max_steps=10_000)
    world.reset(seed=seed)
    ranks = {}
    for card in range(1, cards + 1):
        text = world.step(f"flip {card:02d}")[0]
        found = re.search(r"(\d+) shows (\w+)", text)
        assert found is not None
        if "illegal" not in text:
            ranks[found[1]] = found[2]
    return ranks


def pairs_of(seed: int, cards: int = 8) -> list[tuple[str, str]]:
    by_rank: dict[str, list[str]] = {}
    for card, rank in deck_of(seed, cards).items():
        by_rank.setdefault(rank, []).append(card)
    return [(a, b) for a, b in by_rank.values()]


def test_it_is_a_world() -> None:
    assert isinstance(ConcentrationWorld(), World)


def test_a_game_of_matches_ends_solved_with_progression_1() -> None:
    world = ConcentrationWorld(cards=8)
    world.reset(seed=3)
    rewards = 0.0
    for first, second in pairs_of(3):
        text, reward, terminated, _, _ = world.step(f"flip {first}")
        assert f"pending {first}" in text
        assert (reward, terminated) == (0.0, False)
        text, reward, terminated, truncated, info = world.step(f"flip {second}")
        rewards += reward
        assert " match\n" in text
    assert terminated
    assert not truncated
    assert info["progression"] == 1.0
    assert rewards == pytest.approx(1.0)
    assert "down none" in text


def test_a_miss_turns_both_cards_back() -> None:
    world = ConcentrationWorld(cards=8)
    opening, _ = world.reset(seed=3)
    (first, _), (other, _) = pairs_of(3)[:2]
    world.step(f"flip {first}")
    text = world.step(f"flip {other}")[0]
    assert " miss\n" in text
    assert text.split("\n")[1:] == opening.split("\n")[1:]


def test_the_observation_shows_only_the_last_flip() -> None:
    world = ConcentrationWorld(cards=8)
    world.reset(seed=3)
    (first, _), (other, _) = pairs_of(3)[:2]
    shown = world.step(f"flip {first}")[0].split()[2]
    assert shown not in world.step(f"flip {other}")[0]


@pytest.mark.parametrize(
    "action",
    [
        "flip 99",
        "flip 0",
        "look",
        "",
        "flip",
        "flip 1 2",
        "flip -1",
        "flip " + "9" * 5000,
        "flip ²",
        "flip ٣",
    ],
)
def test_an_illegal_flip_executes_the_fallback_and_the_observation_says_so(action: str) -> None:
    world, twin = ConcentrationWorld(cards=8), ConcentrationWorld(cards=8)
    world.reset(seed=3)
    twin.reset(seed=3)
    text, _, _, _, info = world.step(action)
    expected, *_, legal = twin.step(world.fallback_action)
    assert text == f"illegal flip\n{expected}"
    assert info["invalid_action"] is True
    assert "invalid_action" not in legal


def test_a_matched_card_cannot_be_flipped() -> None:
    world = ConcentrationWorld(cards=8)
    world.reset(seed=3)
    for card in pairs_of(3)[0]:
        world.step(f"flip {card}")
    assert world.step(f"flip {pairs_of(3)[0][0]}")[-1]["invalid_action"]


def test_the_open_card_is_not_flipped_again() -> None:
    world = ConcentrationWorld(cards=8)
    world.reset(seed=3)
    world.step("flip 01")
    text, *_, info = world.step("flip 01")
    assert info["invalid_action"]
    assert text.startswith("illegal flip\n02 shows ")


def test_the_deck_is_a_function_of_the_seed() -> None:
    assert deck_of(5) == deck_of(5)
    assert deck_of(5) != deck_of(6)


def test_the_cap_truncates() -> None:
    world = ConcentrationWorld(cards=40, max_steps=3)
    world.reset(seed=1)
    ends = [world.step("flip next")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_default_cap_is_two_flips_a_card() -> None:
    assert ConcentrationWorld(cards=40).max_steps == 80


def test_a_board_of_thousands_is_shown_in_runs() -> None:
    world = ConcentrationWorld(cards=3000)
    assert world.reset(seed=1)[0].endswith("down 0001-3000")
    assert world.step("flip 17")[0].endswith("pending 0017\ndown 0001-0016 0018-3000")


@pytest.mark.parametrize("cards", [0, 7, MAX_CARDS + 2])
def test_an_impossible_deck_is_refused(cards: int) -> None:
    with pytest.raises(UsageError, match="even"):
        ConcentrationWorld(cards=cards)


def test_no_rank_is_found_inside_another_word() -> None:
    words = [*ANIMALS, *COLOURS]
    assert len(set(words)) == len(words)
    assert not [(a, b) for a in words for b in words if a != b and a in b]
