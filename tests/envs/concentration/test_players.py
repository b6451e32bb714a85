"""Scripted players of Concentration: what they say, and what they score in real sessions."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from automem.agent.roles import RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.engine.protocol import GenerateRequest, Message
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.seeds import seeds_from
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import (
    DONE,
    SLOPPY,
    HabitPlayer,
    NoMemoryPlayer,
    PerfectMemoryPlayer,
    SloppyPlayer,
)
from automem_envs.concentration.view import read_board
from automem_learners.pretrain.play import Game, play_all

LOG_SYSTEM = (
    "cards.txt card rank\nnotes.txt\n<|SEARCH|>file|keyword<|END|>\n<|APPEND|>file|text<|END|>"
)
PLAN_SYSTEM = "find pairs of cards\ncards.txt card rank\nnotes.txt\n<|SEARCH|>file|keyword<|END|>"
FILES = "# files\ncards.txt 2\nnotes.txt 0"
OPEN = "17 shows owl first\npending 17\ndown 01 02 03 05"
MISSED = "17 shows owl miss\npending none\ndown 01 02 05 17"


def log(observation: str, system: str = LOG_SYSTEM, seed: int = 0) -> GenerateRequest:
    text = f"# log\n# action\nflip 17\n# changed\nyes\n# observation\n{observation}\n{FILES}"
    return request(system, text, seed=seed)


def plan(observation: str, *more: str, system: str = PLAN_SYSTEM, seed: int = 0) -> GenerateRequest:
    text = f"# plan\n# observation\n{observation}\n{FILES}"
    return request(system, "\n".join([text, *more]), seed=seed)


def request(system: str, text: str, *turns: str, seed: int = 0) -> GenerateRequest:
    messages = [Message("system", system), Message("user", text)]
    messages += [Message(("assistant", "user")[i % 2], turn) for i, turn in enumerate(turns)]
    return GenerateRequest(id="e/1/0", messages=tuple(messages), seed=seed)


def said(player: HabitPlayer, asked: GenerateRequest) -> dict[str, float]:
    found: Counter[str] = Counter()
    for option in player.options(asked):
        found[option.text] += option.probability
    return dict(found)


def test_perfect_memory_writes_each_flip_as_the_schema_says() -> None:
    assert said(PerfectMemoryPlayer(), log(OPEN)) == {
        "<|APPEND|>cards.txt|17 owl<|END|><|DONE|>": 1.0
    }
    turned = LOG_SYSTEM.replace("card rank", "each flip, rank card")
    assert "<|APPEND|>cards.txt|owl 17<|END|><|DONE|>" in said(
        PerfectMemoryPlayer(), log(OPEN, turned)
    )


def test_it_upserts_where_the_scaffold_offers_it() -> None:
    system = LOG_SYSTEM.replace("<|APPEND|>file|text", "<|UPSERT|>file|key|text")
    assert "<|UPSERT|>cards.txt|17|owl<|END|><|DONE|>" in said(
        PerfectMemoryPlayer(), log(OPEN, system)
    )


def test_perfect_memory_searches_for_the_open_card() -> None:
    assert said(PerfectMemoryPlayer(), plan(OPEN)) == {"<|SEARCH|>cards.txt|owl<|END|>": 1.0}


def test_nothing_is_searched_while_no_card_is_open() -> None:
    assert all(text.startswith("<|ACTION|>") for text in said(PerfectMemoryPlayer(), plan(MISSED)))


@pytest.mark.parametrize("player", [PerfectMemoryPlayer(), SloppyPlayer(), NoMemoryPlayer()])
def test_everybody_flips_the_mate_that_a_result_names(player: HabitPlayer) -> None:
    found = "# results\nSEARCH cards.txt|owl\n05 owl\n17 owl"
    asked = request(
        PLAN_SYSTEM,
        f"# plan\n# observation\n{OPEN}\n{FILES}",
        "<|SEARCH|>cards.txt|owl<|END|>",
        f"{found}\n# commit",
    )
    assert said(player, asked) == {"owl 05<|ACTION|>flip 05<|END|>": 1.0}


@pytest.mark.parametrize("player", [PerfectMemoryPlayer(), SloppyPlayer(), NoMemoryPlayer()])
def test_everybody_flips_the_mate_that_the_prompt_shows(player: HabitPlayer) -> None:
    asked = plan(OPEN, "# memory cards.txt", "17 owl", "05: owl", "03 fox")
    assert said(player, asked) == {"owl 05<|ACTION|>flip 05<|END|>": 1.0}


def test_a_pair_in_view_is_flipped_even_where_no_card_is_open() -> None:
    asked = plan(MISSED, "# memory cards.txt", "05 owl", "03 fox", "01 hare", "02 hare")
    thoughts = {text.partition("<|ACTION|>flip ")[::2] for text in said(SloppyPlayer(), asked)}
    pairs = {("owl 05", "05"), ("owl 17", "17"), ("hare 01", "01"), ("hare 02", "02")}
    assert {(thought, action[:2]) for thought, action in thoughts if action} == pairs


def test_matched_cards_and_contradictions_are_not_flipped() -> None:
    found = "# results\nSEARCH cards.txt|owl\n04 owl\n17 owl"
    asked = request(
        PLAN_SYSTEM, f"# plan\n# observation\n{OPEN}\n{FILES}", "x", f"{found}\n# commit"
    )
    flips = {f"owl<|ACTION|>flip {card}<|END|>" for card in ("01", "02", "03", "05")}
    assert set(said(SloppyPlayer(), asked)) == flips


def test_the_teachers_most_frequent_habit_is_doing_nothing() -> None:
    habits: Counter[str] = Counter()
    for option in SloppyPlayer().options(log(OPEN)):
        habits[option.habit] += option.probability
    assert habits.most_common(2) == [("nothing", pytest.approx(0.53)), ("write", SLOPPY.write)]
    habits.clear()
    for option in SloppyPlayer().options(plan(OPEN)):
        habits[option.habit] += option.probability
    assert [name for name, _ in habits.most_common(2)] == ["nothing", "search"]


def test_options_sum_to_one() -> None:
    for asked in (
        log(OPEN),
        log(MISSED),
        plan(OPEN),
        plan(MISSED),
        plan("new deck\npending none\ndown 01 02"),
    ):
        total = sum(option.probability for option in SloppyPlayer().options(asked))
        assert total == pytest.approx(1.0)


def test_log_ends_after_one_look() -> None:
    text = log(OPEN).messages[1].content
    asked = request(
        LOG_SYSTEM,
        text,
        "<|SEARCH|>cards.txt|owl<|END|>",
        "# results\nSEARCH cards.txt|owl\nno match",
    )
    assert said(SloppyPlayer(), asked) == {DONE: 1.0}


def test_a_reply_is_a_function_of_the_request() -> None:
    player = SloppyPlayer()
    asked = [log(OPEN, seed=seed) for seed in range(40)]
    assert [player.reply(one) for one in asked] == [player.reply(one) for one in asked]
    assert len({player.reply(one) for one in asked}) > 3


def test_a_board_of_runs_is_read_card_by_card() -> None:
    board = read_board("0017 shows red owl first\npending 0017\ndown 0001-0003 0009")
    assert board.down == ("0001", "0002", "0003", "0009")
    assert (board.rank, board.pending) == ("red owl", "0017")


def progression(player: HabitPlayer, games: int, cards: int = 40) -> list[float]:
    binding = RoleBinding(engine=ScriptedEngine(player), counter=ApproximateCounter())
    scaffold = load_scaffold(Path(scaffold_path("embedded")))
    tables = [
        Game(ConcentrationWorld(cards), seed, 0, scaffold, Roles(binding, binding))
        for seed in seeds_from("calibrate", games)
    ]
    return [played.progression for played in asyncio.run(play_all(tables, 8))]


def test_memory_alone_separates_the_players() -> None:
    none, sloppy, perfect = (
        sum(progression(player, 12)) / 12
        for player in (NoMemoryPlayer(), SloppyPlayer(), PerfectMemoryPlayer())
    )
    assert none < 0.12
    assert 0.12 < sloppy < 0.4
    assert perfect > 0.75


def test_a_large_board_is_played_from_memory_too() -> None:
    assert progression(PerfectMemoryPlayer(), 1, cards=120)[0] > 0.6


def test_the_players_draw_from_the_request_alone() -> None:
    random.seed(1)
    first = progression(SloppyPlayer(), 2)
    random.seed(2)
    assert progression(SloppyPlayer(), 2) == first
