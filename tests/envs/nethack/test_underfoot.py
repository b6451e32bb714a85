"""What lies underfoot, in the real game: what was seen there before, what the game says of it."""

import random
import re
from collections import Counter

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")

from automem_envs.nethack import NetHackWorld
from automem_envs.nethack.glyphs import tables
from automem_envs.nethack.underfoot import Underfoot

WORDS = [
    *("north", "south", "east", "west", "northeast", "southwest"),
    *("far north", "far south", "far east", "far west"),
    *("pick up", "drop", "a", "b", "c", "$", "down", "esc", "kick", "eat"),
]


@pytest.fixture
def world():
    made = NetHackWorld(no_progress_steps=10_000)
    yield made
    made.close()


def under(text: str) -> str:
    found = re.search(r"^under you: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def test_what_a_creature_stood_on_is_known_from_before(world: NetHackWorld) -> None:
    """Defect: only the frame before was looked at, where a pet hid the stairs."""
    silent = 0
    for seed in range(200, 230):
        draw = random.Random(seed)
        text, _ = world.reset(seed=seed)
        for _ in range(60):
            text, *_, ended, _, _ = world.step(draw.choice(["north", "south", "east", "west"]))
            if ended:
                break
            message = world.step("look")[0].split("around:")[0]
            silent += "There is a staircase" in message and "staircase" not in under(text)
    assert silent == 0


def test_what_is_told_is_what_the_game_says_on_looking(world: NetHackWorld) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(200, 220):
        draw = random.Random(seed)
        text, _ = world.reset(seed=seed)
        for _ in range(120):
            text, *_, ended, _, _ = world.step(draw.choice(WORDS))
            if world._game.prompt != "none":
                text, *_, ended, _, _ = world.step("esc")
            if ended:
                break
            said = world.step("look")[0].split("around:")[0]
            is_bare = "You see no objects here" in said and "There is" not in said
            is_told = bool(under(text))
            kinds[f"{'bare' if is_bare else 'something'}, {'told' if is_told else 'silent'}"] += (
                "here" in said
            )
    assert kinds["something, told"] > 100
    assert kinds["bare, told"] == 0
    # Traps that were stepped into and doorways met in the middle of a run were never seen.
    assert kinds["something, silent"] < 0.1 * kinds["something, told"]


def test_what_was_dropped_lies_underfoot(world: NetHackWorld) -> None:
    text, _ = world.reset(seed=43)
    thing = text.split("inventory:\n")[1].split("\nstatus:")[0].split("\n")[-1]
    world.step("drop")
    text = world.step(thing[0])[0]
    assert under(text).startswith("staircase up; ")
    assert under(world.step("search")[0]) == under(text)


def listening(message: str) -> str:
    """What a message tells of the square."""
    underfoot = Underfoot(tables(), begins_on_stairs=False)
    underfoot.step([0] * 27, message, "")
    return underfoot.text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("There is a fountain here.  You see here 2 daggers.", "fountain; 2 daggers"),
        ("There is an altar to Anhur (lawful) here.", "altar to Anhur (lawful)"),
        ("There are several objects here.", "several objects"),
        ("Things that are here:\na dart\na bow\nYou hear a door open.", "a dart, a bow"),
        ("There is a newt corpse here; eat it? [ynq] (n)", ""),
        ("There is nothing here to pick up.", ""),
        ("You drop a dart.  You drop a bow.", "a dart, a bow"),
    ],
)
def test_the_games_words_for_a_square_are_read(message: str, text: str) -> None:
    assert listening(message) == text
