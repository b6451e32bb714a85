"""NetHack as a world of text: determinism, the original's game, actions, prompts, ends."""

import random
from pathlib import Path

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")

from nle import nethack
from nle.env.tasks import NetHackChallenge
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.world import World, progression_of
from automem_envs.nethack import NetHackWorld
from automem_envs.nethack.game import END_REASONS, Game
from automem_envs.nethack.keys import ANSWERS, COMMANDS, DIRECTIONS, GRAMMAR, Prompt, keys_for
from automem_envs.nethack.progression import DUNGEON_LEVELS, EXPERIENCE_LEVELS, progression

TARGET = {"_target_": "automem_envs.nethack.NetHackWorld"}
WALKS = [*DIRECTIONS, *(f"far {word}" for word in DIRECTIONS), "search", "down"]


@pytest.fixture
def world():
    made = NetHackWorld()
    yield made
    made.close()


def section(text: str, name: str) -> str:
    """The body of one section of an observation."""
    names = ("task", "message", "around", "ways", "cursor", "map", "inventory", "status")
    body: list[str] = []
    is_in = False
    for line in text.split("\n"):
        if line.endswith(":") and line[:-1] in names:
            is_in = line[:-1] == name
        elif is_in:
            body.append(line)
    return "\n".join(body)


def test_it_is_a_world(world: NetHackWorld) -> None:
    assert isinstance(world, World)
    assert keys_for(world.fallback_action) is not None
    assert (world.max_steps, world.no_progress_steps) == (100_000, 150)


def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    assert_same_in_every_process(TARGET, list(COMMANDS))


def test_a_killed_episode_resumes_to_the_trace_of_an_undisturbed_one(tmp_path: Path) -> None:
    player = {"_target_": "automem_envs.nethack.NetHackPlayer"}
    assert_killed_episode_resumes(TARGET, player, tmp_path)


@pytest.mark.parametrize("seed", [42, 7])
def test_the_game_is_that_of_the_challenge(seed: int, world: NetHackWorld) -> None:
    """nle's own environment, key by key, against the world's screen."""
    original = NetHackChallenge(fix_moon_phase=True)
    type(original.nethack).set_initial_seeds(original.nethack, seed, seed, False)
    observation, _ = original.reset()
    world.reset(seed=seed)
    draw = random.Random(seed)
    more = original.actions.index(nethack.MiscAction.MORE)
    for _ in range(300):
        word = draw.choice(WALKS)
        ended = world.step(word)[2]
        observation, _, done, _, _ = original.step(original.actions.index(COMMANDS[word]))
        while not done and b"--More--" in observation["tty_chars"].tobytes():
            observation, _, done, _, _ = original.step(more)
        assert done == ended
        if done:
            break
        # The first line may differ: what was looked at from afar is called by its full name.
        assert (observation["tty_chars"][1:] == world._game.screen[1:]).all()
    original.close()


def test_many_games_in_one_process_do_not_disturb_one_another() -> None:
    alone = NetHackWorld()
    text, _ = alone.reset(seed=3)
    expected = [text, *(alone.step(word)[0] for word in WALKS)]
    worlds = [NetHackWorld() for _ in range(8)]
    texts: list[list[str]] = [[made.reset(seed=3)[0]] for made in worlds]
    for word in WALKS:
        for made, seen in zip(worlds, texts, strict=True):
            seen.append(made.step(word)[0])
    assert all(seen == expected for seen in texts)
    for made in [alone, *worlds]:
        made.close()


@pytest.mark.slow
def test_one_process_holds_256_games() -> None:
    worlds = [NetHackWorld() for _ in range(256)]
    first = [made.reset(seed=seed % 4)[0] for seed, made in enumerate(worlds)]
    later = [made.step("search")[0] for made in worlds]
    for texts in (first, later):
        assert all(text == texts[number % 4] for number, text in enumerate(texts))
    for made in worlds:
        made.close()


def test_the_observation_tells_everything_in_sections(world: NetHackWorld) -> None:
    text, info = world.reset(seed=42)
    assert "tame little dog called Idefix 1 step east" in section(text, "around")
    assert "under you: staircase up" in section(text, "around")
    assert "closed door 2 steps west" in section(text, "around")
    row, column = (int(part.split()[1]) for part in section(text, "cursor").split(","))
    # The map starts at the terminal's second line.
    assert section(text, "map").split("\n")[row - 1][column] == "@"
    assert section(text, "inventory").startswith("a: a +0 two-handed sword (weapon in hands)")
    assert "health 16/16" in section(text, "status")
    assert "strength 18/03" in section(text, "status")
    assert info == {
        "progression": 0.0,
        "depth": 1,
        "experience_level": 1,
        "turn": 1,
        "score": 0,
    }


def test_what_was_stepped_on_is_remembered_as_underfoot(world: NetHackWorld) -> None:
    world.reset(seed=42)
    world.step("toggle autopickup")
    text = world.step("west")[0]
    assert "under you: a scroll labeled KIRJE" in text
    assert "staircase up 1 step east" in text
    text = world.step("pick up")[0]
    assert "under you" not in text
    assert "scroll labeled KIRJE" in section(text, "inventory")


def test_the_ways_tell_doors_from_walls() -> None:
    world = NetHackWorld(shows_ways=True)
    world.reset(seed=42)
    text = world.step("west")[0]
    ways = section(text, "ways")
    assert ways == (
        "passable: north, south, east, northeast, southeast; "
        "closed doors: west (closed door); blocked: northwest, southwest"
    )
    world.close()


@pytest.mark.parametrize("word", list(COMMANDS))
def test_every_advertised_action_can_be_executed(word: str, world: NetHackWorld) -> None:
    world.reset(seed=42)
    spelled = f"  {word.replace(' ', '  ').upper()}\n"
    text, *_, info = world.step(spelled)
    assert "invalid_action" not in info
    assert "Unknown command" not in text


def test_the_grammar_names_every_word() -> None:
    assert all(word in GRAMMAR for word in COMMANDS)


def test_words_that_only_answer_are_refused_where_nothing_is_asked(world: NetHackWorld) -> None:
    world.reset(seed=43)
    assert "invalid_action" in world.step("more")[4]
    text = world.step("inventory")[0]
    assert "cram rations" in section(text, "map")
    assert "invalid_action" not in world.step("more")[4]
    assert keys_for("space", Prompt.KEY) == (32,)


def test_the_keys_are_those_of_nle() -> None:
    known = {int(action) for action in nethack.ACTIONS}
    assert set(COMMANDS.values()) | set(ANSWERS.values()) <= known
    assert len(set(COMMANDS.values())) == len(COMMANDS)


@pytest.mark.parametrize("count", [2, 9, 10, 20])
def test_a_count_repeats_a_command(count: int, world: NetHackWorld) -> None:
    world.reset(seed=44)
    before = world.step("search")[4]["turn"]
    after = world.step(f"{count} search")[4]["turn"]
    # A creature that comes into view stops it; a fast hero acts more often than the turn changes.
    assert before + count // 2 <= after <= before + count


def test_a_two_digit_number_is_a_count_for_the_next_action(world: NetHackWorld) -> None:
    world.reset(seed=44)
    before = world.step("search")[4]["turn"]
    assert world.step("20")[4]["turn"] == before
    assert world.step("search")[4]["turn"] > before + 9


def test_commands_that_ask_are_answered_in_further_steps(world: NetHackWorld) -> None:
    world.reset(seed=43)
    text = world.step("throw")[0]
    assert section(text, "message").startswith("What do you want to throw?")
    text = world.step("c")[0]
    assert section(text, "message") == "In what direction?"
    text = world.step("north")[0]
    assert "c: 54 +2 crossbow bolts" in section(text, "inventory")


def test_a_line_of_text_is_typed_where_the_game_asks_for_one(world: NetHackWorld) -> None:
    world.reset(seed=43)
    assert "invalid_action" in world.step("type Elbereth")[4]
    world.step("throw")
    world.step("esc")
    world.step("north")
    world.step("engrave")
    text, *_ = world.step("-")
    while "What do you want to write" not in section(text, "message"):
        text, *_ = world.step("y")
    assert "invalid_action" not in world.step("type Elbereth")[4]
    text, *_ = world.step("look")
    assert "Elbereth" in section(text, "message")


def at_a_line_of_text(world: NetHackWorld) -> str:
    """The hero is asked what to write in the dust."""
    world.reset(seed=43)
    world.step("engrave")
    text, *_ = world.step("-")
    while "What do you want to write" not in section(text, "message"):
        text, *_ = world.step("y")
    return text


@pytest.mark.parametrize("action", ["north", "pray", "20 search", "20", "k", "space"])
def test_a_command_is_no_letter_of_a_line_of_text(action: str, world: NetHackWorld) -> None:
    """Defect: at a text prompt every command word was typed as letters."""
    at_a_line_of_text(world)
    text, *_, info = world.step(action)
    assert info["invalid_action"] is True
    assert "is not an action here; esc was done instead" in text
    at_a_line_of_text(world)
    assert "invalid_action" not in world.step("esc")[4]
    assert keys_for(" More ", Prompt.TEXT) == (13,)


def test_the_inventory_has_the_letters_that_adjust_gives(world: NetHackWorld) -> None:
    """Defect: letters that changed while the things stayed were not shown."""
    text, _ = world.reset(seed=43)
    thing = section(text, "inventory").split("\n")[-1]
    for answer in ("adjust", thing[0], "z"):
        text = world.step(answer)[0]
    assert section(text, "inventory").split("\n")[-1] == f"z{thing[1:]}"


def test_letters_that_would_leave_the_game_count_only_as_answers() -> None:
    for letter in "SO#!?":
        assert keys_for(letter) is None
        assert keys_for(letter, Prompt.KEY) == (ord(letter),)
    assert keys_for("e") == keys_for("eat") == (ord("e"),)
    assert keys_for("type x", Prompt.TEXT) == (ord("x"), 13)


def test_more_is_never_left_for_the_agent(world: NetHackWorld) -> None:
    draw = random.Random(5)
    world.reset(seed=5)
    for seed in range(300):
        text, _, terminated, truncated, _ = world.step(draw.choice(list(COMMANDS)))
        assert "--More--" not in text
        if terminated or truncated:
            world.reset(seed=seed)


@pytest.mark.parametrize(
    "answer",
    ["dance", "", "\x00", "far away", "100 search", "01", "S", "type \x07", "é", 'a "b"\n' * 99],
)
def test_an_invalid_action_executes_esc_and_the_observation_says_so(
    answer: str, world: NetHackWorld
) -> None:
    world.reset(seed=42)
    text, _, _, _, info = world.step(answer)
    notice, _, rest = text.partition("\n")
    assert notice.endswith("is not an action here; esc was done instead.")
    assert len(notice) < 130
    assert notice.isprintable()
    assert info.pop("invalid_action") is True
    world.reset(seed=42)
    escaped = world.step("esc")
    assert escaped[4] == info
    assert rest == escaped[0]


def test_arbitrary_strings_never_break_the_world() -> None:
    assert_takes_anything(TARGET, list(COMMANDS))


def test_no_progress_ends_the_episode() -> None:
    world = NetHackWorld(no_progress_steps=5)
    world.reset(seed=42)
    ends = [world.step("inventory")[2:] for _ in range(5)]
    assert [end[1] for end in ends] == [False] * 4 + [True]
    assert "did not change for 5 actions" in ends[-1][2]["stop"]
    world.close()


def test_the_cap_ends_the_episode() -> None:
    world = NetHackWorld(max_steps=2)
    world.reset(seed=42)
    world.step("search")
    _, _, terminated, truncated, info = world.step("search")
    assert (terminated, truncated, info["stop"]) == (False, True, "cap")
    world.close()


def test_death_is_told_with_its_cause(world: NetHackWorld) -> None:
    world.reset(seed=1)
    draw = random.Random(1)
    for _ in range(5000):
        text, _, terminated, truncated, info = world.step(draw.choice([*WALKS, "20 search"]))
        if terminated:
            break
        if truncated:
            world.reset(seed=2)
    assert terminated
    reason, _, cause = info["stop"].partition(": ")
    assert reason in END_REASONS
    assert cause
    assert text.endswith(f"the game is over: {info['stop']}")


def test_what_the_fatal_action_reached_counts(
    world: NetHackWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: the last action was not measured, so a level reached in it was lost."""
    monkeypatch.setattr(Game, "deepest_level", property(lambda game: 12))
    draw = random.Random(1)
    turns = [world.reset(seed=1)[1]["turn"]]
    is_dead = False
    while not is_dead:
        *_, is_dead, _, info = world.step(draw.choice([*WALKS, "20 search"]))
        turns.append(info["turn"])
    assert turns[-1] == int(world._game._logged()["turns"]) > turns[-2]
    assert info["progression"] == DUNGEON_LEVELS[11]


def test_a_world_that_was_closed_begins_anew(world: NetHackWorld) -> None:
    first = world.reset(seed=5)
    world.close()
    assert world.reset(seed=5) == first


def test_progression_is_the_larger_of_both_figures_and_never_falls(world: NetHackWorld) -> None:
    assert (len(DUNGEON_LEVELS), len(EXPERIENCE_LEVELS)) == (50, 30)
    assert progression(1, 1) == 0.0
    assert progression(2, 1) == 0.015392
    assert progression(1, 2) == 0.018478
    assert progression(10, 2) == progression(10, 1) == 0.125586
    assert progression(60, 40) == max(DUNGEON_LEVELS[-1], EXPERIENCE_LEVELS[-1])
    world.reset(seed=42)
    world._info["progression"] = 0.5
    assert progression_of(world.step("search")[4]) == 0.5


def test_an_episode_is_replayed_from_its_actions(world: NetHackWorld) -> None:
    draw = random.Random(8)
    actions = [draw.choice(WALKS) for _ in range(200)]
    played = [world.reset(seed=8)[0], *(world.step(action)[0] for action in actions[:150])]
    other = NetHackWorld()
    assert [other.reset(seed=8)[0], *(other.step(action)[0] for action in actions[:150])] == played
    for action in actions[150:]:
        assert world.step(action) == other.step(action)
    other.close()
