"""The memory games as worlds: what each promises, and that the rules are the packages' own."""

import gymnasium
import numpy as np
import pytest
from support.world_contract import assert_same_in_every_process, assert_takes_anything

from automem.errors import UsageError
from automem_envs import memory_games
from automem_envs.memory_games.battleship import has_room
from automem_envs.memory_games.package import game_of
from automem_envs.registration import register_worlds

pytest.importorskip("popgym", reason="pip install 'automem[games]'")
pytest.importorskip("minigrid", reason="pip install 'automem[games]'")

ACTIONS: dict[str, list[str]] = {
    "RepeatPrevious": ["spades", "diamonds", "clubs", "hearts", "next"],
    "CountRecall": ["0", "3", "17", "next"],
    "DeckConcentration": ["flip 1", "flip next", "flip 30", "flip 52", "flip 7"],
    "Battleship": ["shoot 1 1", "shoot 3 4", "shoot 10 10", "shoot 7 2"],
    "GridMemory": ["turn left", "turn right", "go ahead", "go ahead", "open", "wait"],
    "RedBlueDoors": ["turn left", "turn right", "go ahead", "go ahead", "open", "wait"],
}


def target(name: str, **arguments: object) -> dict:
    return {"_target_": f"automem_envs.memory_games.{name}World", **arguments}


def make(name: str, **arguments: object) -> gymnasium.Env:
    return getattr(memory_games, f"{name}World")(**arguments)


@pytest.mark.parametrize("name", ACTIONS)
def test_two_processes_with_different_hash_seeds_give_the_same_trace(name: str) -> None:
    assert_same_in_every_process(target(name), ACTIONS[name])


@pytest.mark.parametrize("name", ACTIONS)
def test_ten_thousand_arbitrary_strings_do_no_harm(name: str) -> None:
    count = 10_000 if name not in ("GridMemory", "RedBlueDoors") else 3_000
    assert_takes_anything(target(name), ACTIONS[name], count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GridMemory", "RedBlueDoors"])
def test_ten_thousand_arbitrary_strings_do_a_grid_no_harm(name: str) -> None:
    assert_takes_anything(target(name), ACTIONS[name])


@pytest.mark.parametrize(
    "name", ["RepeatPrevious", "CountRecall", "DeckConcentration", "Battleship"]
)
def test_rewards_add_up_to_progression(name: str) -> None:
    world = make(name)
    world.reset(seed=1)
    total, is_over, step = 0.0, False, 0
    while not is_over:
        action = ACTIONS[name][step % len(ACTIONS[name])]
        _, reward, terminated, truncated, info = world.step(action)
        total, is_over, step = total + reward, terminated or truncated, step + 1
    assert total == pytest.approx(info["progression"])


def test_repeat_previous_asks_what_popgym_pays_for() -> None:
    """Answers taken from the text alone earn all that POPGym has to give."""
    world = make("RepeatPrevious", decks=2, k=5)
    text, _ = world.reset(seed=3)
    shown: list[str] = []
    is_over = False
    while not is_over:
        if text.startswith("Card "):
            shown.append(text.split("\n")[0].split(": ")[1])
        action = shown[-5] if "Which suit was shown 4 before it?" in text else "next"
        text, _, is_over, is_cut, info = world.step(action)
        assert not is_cut
    assert info["progression"] == 1.0


def test_count_recall_asks_what_popgym_pays_for() -> None:
    world = make("CountRecall", decks=2, kind="ranks")
    text, _ = world.reset(seed=3)
    shown: list[str] = []
    is_over = False
    while not is_over:
        action = "next"
        if text.startswith("Card "):
            shown.append(text.split("\n")[0].split(": ")[1])
            action = str(shown.count(text.split("How many were ")[1].split(" so far")[0]))
        text, _, is_over, is_cut, info = world.step(action)
        assert not is_cut
    assert info["progression"] == 1.0


def test_a_shot_at_the_same_place_is_a_miss() -> None:
    world = make("Battleship", board=4, ships=[1])
    world.reset(seed=1)
    squares = [(row, column) for row in range(1, 5) for column in range(1, 5)]
    for row, column in squares:
        _, _, is_over, _, info = world.step(f"shoot {row} {column}")
        if is_over:
            break
    assert info["progression"] == 1.0
    world.reset(seed=1)
    other = next(square for square in squares if square != (row, column))
    texts = [world.step(f"shoot {other[0]} {other[1]}")[0] for _ in range(2)]
    assert all(": miss" in text for text in texts)


@pytest.mark.timeout(60)
def test_ships_that_block_one_another_are_placed_anew() -> None:
    """Defect: POPGym looks for ever for room that the ships before have left none of."""
    world = make("Battleship", board=9, ships=[*[1] * 18, 9])
    for seed in range(13):
        world.reset(seed=seed)
        board = world._game.board.copy()
        assert board.sum() == 27
        assert max(*board.sum(axis=0), *board.sum(axis=1)) == 9
        world.reset(seed=seed)
        assert (world._game.board == board).all()


def test_room_for_a_ship_is_seen_in_rows_and_columns() -> None:
    board = np.ones((4, 4), np.int8)
    assert not has_room(board, 1)
    board[:3, 1] = 0
    assert has_room(board, 3)
    assert not has_room(board, 4)
    assert has_room(board.T, 3)


def test_a_fleet_that_fits_lies_as_popgym_lays_it() -> None:
    world = make("Battleship")
    game = game_of("popgym.envs.battleship", "Battleship")()
    for seed in range(5):
        world.reset(seed=seed)
        game.reset(seed=seed)
        assert (world._game.board == game.board).all()


def test_a_card_flipped_again_wastes_the_turn_as_in_popgym() -> None:
    world = make("DeckConcentration", kind="colors")
    world.reset(seed=1)
    world.step("flip 1")
    text, *_ = world.step("flip 1")
    assert ", miss" in text
    pair = next(card for card in range(2, 53) if matches(world, 1, card))
    text, *_ = world.step("flip 1")
    assert ", was face up already\nOpen: none" in text
    assert f"{pair:02d}" not in text.split("Face down: ")[1].replace("-", " ").split()


def matches(world: gymnasium.Env, first: int, second: int) -> bool:
    world.step(f"flip {first}")
    return ", match" in world.step(f"flip {second}")[0]


def test_the_grid_in_words_is_minigrids_own() -> None:
    world = make("GridMemory", random_length=False)
    text, _ = world.reset(seed=1)
    game = game_of("minigrid.envs.memory", "MemoryEnv")(13, False)
    game.reset(seed=1)
    for action, number in (("turn right", 1), ("go ahead", 2), ("turn right", 1), ("go ahead", 2)):
        text, *_ = world.step(action)
        game.step(number)
        assert f"You face: {('east', 'south', 'west', 'north')[game.agent_dir]}" in text
        ahead = game.grid.get(*game.front_pos)
        assert f"Straight ahead: {ahead.type if ahead else 'floor'}" in text


def test_the_wrong_object_ends_the_grid_game_without_progression() -> None:
    results = set()
    for turn in ("turn left", "turn right"):
        world = make("GridMemory", size=7, random_length=False)
        text, _ = world.reset(seed=1)
        is_over = False
        for _ in range(10):
            action = "go ahead" if "Straight ahead: floor" in text else turn
            text, _, is_over, _, info = world.step(action)
            if is_over:
                break
        results.add((info["progression"], info["stop"]))
    assert results == {(1.0, "solved"), (0.0, "failed")}


@pytest.mark.parametrize(
    ("name", "arguments", "steps"),
    [
        ("RepeatPrevious", {"decks": 400, "k": 64}, 20_800),
        ("CountRecall", {"decks": 400}, 20_800),
        ("DeckConcentration", {"decks": 200}, 20_800),
        ("Battleship", {"board": 150}, 22_500),
        ("GridMemory", {"size": 101}, 51_005),
        ("RedBlueDoors", {"size": 50}, 50_000),
    ],
)
def test_horizons_reach_tens_of_thousands_of_steps(name: str, arguments: dict, steps: int) -> None:
    world = make(name, **arguments)
    assert world.max_steps == steps
    world.reset(seed=1)
    for action in ACTIONS[name]:
        world.step(action)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("RepeatPrevious", {"k": 52}, "from 2 to 51"),
        ("CountRecall", {"kind": "sizes"}, "one of colors, suits, ranks"),
        ("DeckConcentration", {"decks": 0}, "from 1 to 1000"),
        ("Battleship", {"board": 4, "ships": [4, 4]}, "a third of its squares"),
        ("Battleship", {"shots": 101}, "from 1 to 100"),
        ("GridMemory", {"size": 12}, "must be odd"),
        ("RedBlueDoors", {"size": 4}, "from 5 to"),
    ],
)
def test_bad_arguments_are_refused_in_words(name: str, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(name, **arguments)


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(UsageError, match=r"needs the package popgymm .*automem\[games\]"):
        game_of("popgymm.envs", "Nothing")


def test_gymnasium_makes_them_by_their_ids() -> None:
    register_worlds()
    for name in ACTIONS:
        world = gymnasium.make(f"automem/{name}-v0")
        assert isinstance(world.reset(seed=1)[0], str)
        world.close()
