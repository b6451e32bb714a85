"""The scripted player of NetHack: reading an observation, deciding, playing a real session."""

import random
from pathlib import Path

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")

from support.plain_play import play_plainly

from automem.agent.prompt_view import OpShown, PromptView
from automem_envs.nethack import NetHackPlayer, NetHackWorld
from automem_envs.nethack.sight import Sight, read_sight

STATUS = (
    "health {health}/16, energy 2/2, armor class 7, experience level 1 (0 points), "
    "dungeon level 1, gold 0, turn {turn}\nstrength 18\n{hunger}, unburdened, conditions: none"
)


def seen(
    rows: list[str],
    around: str = "nothing but walls and floor",
    message: str = "none",
    health: int = 16,
    turn: int = 500,
    hunger: str = "not hungry",
    inventory: str = "none",
) -> str:
    """An observation whose map has these rows from the second line on; @ is the player."""
    row = next(number for number, line in enumerate(rows) if "@" in line)
    return (
        f"message:\n{message}\naround:\n{around}\ncursor:\nrow {row + 1}, "
        f"column {rows[row].index('@')}\nmap:\n"
        + "\n".join([*rows, *[""] * (23 - len(rows))])
        + f"\ninventory:\n{inventory}\nstatus:\n"
        + STATUS.format(health=health, turn=turn, hunger=hunger)
    )


def decide(observation: str, *notes: str) -> str:
    view = PromptView(observation=observation)
    view.results = [OpShown("SEARCH", "map.txt", "D1 ", notes)]
    return NetHackPlayer().decide(view, random.Random(0))


def test_an_observation_is_read_back() -> None:
    world = NetHackWorld()
    sight = read_sight(world.reset(seed=42)[0])
    assert sight.here == (68, 9)
    assert sight.sign(sight.here) == "@"
    assert sight.under == "staircase up"
    assert sight.things[66, 9] == "closed door"
    assert sight.things[69, 10] == "2 gold pieces"
    assert sight.is_creature((69, 9))
    assert not sight.is_creature((67, 9))
    assert sight.carried["d"] == "an uncursed food ration"
    assert (sight.health, sight.most_health, sight.depth, sight.turn) == (16, 16, 1, 1)
    assert sight.hunger == "not hungry"
    world.close()


def test_where_a_prompt_has_the_cursor_the_player_is_the_sign_on_the_map() -> None:
    text = seen(["|..@..|"]).replace("row 1, column 3", "row 0, column 20")
    assert read_sight(text).here == (3, 1)
    assert read_sight("") == Sight(rows=["".ljust(80)])


ROOM = ["-----", "|.@.|", "|..>|", "-----"]


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (seen(ROOM), "southeast"),
        (seen(ROOM, around="under you: staircase down"), "down"),
        (seen(["|.@d|"], around="jackal 1 step east"), "east"),
        (seen(["|@e|"], around="floating eye 1 step east"), "15 search"),
        (seen(ROOM, health=3), "pray"),
        (seen(ROOM, health=3, turn=100), "southeast"),
        (seen(ROOM, hunger="hungry", inventory="d: a food ration"), "eat"),
        (seen(ROOM, message="What do you want to eat? [d or ?*]", inventory="d: an apple"), "d"),
        (seen(ROOM, message="Are you sure you want to pray? [yn] (n)"), "y"),
        (seen(ROOM, message="Really attack the watchman? [yn] (n)"), "esc"),
        (seen(["+@.|"], around="closed door 1 step west", message="This door is locked."), "kick"),
        (seen(["+@.|"], around="closed door 1 step west", message="In what direction?"), "west"),
        (seen(["|@.|"], around="closed door 1 step west"), "west"),
    ],
)
def test_what_the_player_does(observation: str, action: str) -> None:
    assert decide(observation) == action


def test_it_does_not_explore_where_it_stood() -> None:
    corridor = seen([" ##@## "])
    assert decide(corridor) in ("west", "east")
    assert decide(corridor, "D1 1,1 stood: 3", "D1 2,1 stood: 4") == "east"
    assert decide(corridor, "D1 4,1 stood: 3", "D1 5,1 stood: 4") == "west"
    # Notes on another level say nothing about this one.
    assert decide(corridor, "D2 4,1 stood: 3", "D2 5,1 stood: 4", "D1 1,1 stood: 3") == "east"


def test_it_does_not_search_where_it_searched() -> None:
    dead_end = seen(["|@....|", "-------"])
    assert decide(dead_end) in ("15 search", "east")
    assert decide(dead_end, "D1 1,1 searched: 9") == "east"


async def test_it_plays_by_its_notes_without_a_refused_operation(tmp_path: Path) -> None:
    world = NetHackWorld(max_steps=120)
    played = await play_plainly(world, NetHackPlayer(), tmp_path, seed=5000)
    assert played.refused == []
    assert played.steps == 120
    assert "D1 " in played.files["map.txt"]
    fresh = NetHackPlayer()
    for request, text in reversed(played.heard[-60:]):
        assert fresh.reply(request) == text
    world.close()


async def test_its_twin_writes_the_same_way_and_reads_nothing(tmp_path: Path) -> None:
    world = NetHackWorld(max_steps=60)
    played = await play_plainly(world, NetHackPlayer(reads=False), tmp_path, seed=5000)
    assert played.refused == []
    assert "D1 " in played.files["map.txt"]
    world.close()
