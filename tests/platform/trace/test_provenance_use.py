"""Which retrieved lines an action used, on small traces whose answer is plain to see."""

import pytest
from support.agent_harness import make_scaffold
from support.told_game import Told, append, play_told, search

from automem.agent.scaffold import FileSchema
from automem.trace.credit import singled_out
from automem.trace.rows import rows
from automem.trace.story import tell

DOWN = "down 03 05 11 17 20"


def table(events, name):
    return [row for found, row in rows(events) if found == name]


async def one_use(tmp_path, line, do, see=f"05 shows owl first\npending 05\n{DOWN}", ask="owl",
                  instruction="Find pairs."):  # fmt: skip
    """Step 1 writes `line`; step 2 asks for it and acts. The retrieval's row."""
    steps = [Told("new deck"), Told("17 shows owl", (append(line),)), Told(see, (), (search(ask),),
             do), Told("the end")]  # fmt: skip
    events = await play_told(tmp_path, steps, instruction=instruction)
    [row] = [r for r in table(events, "retrievals") if r["routine"] == "plan"]
    return row


async def test_an_action_uses_the_line_that_told_it_which_card(tmp_path):
    row = await one_use(tmp_path, "17 owl", "flip 17")
    assert (row["used"], row["named"]) == ([0], ["17"])
    assert row["writers"] == [{"file": "notes.txt", "step": 1, "turn": 0, "index": 0, "line": 0}]


async def test_another_card_is_no_use_of_the_line(tmp_path):
    assert (await one_use(tmp_path, "17 owl", "flip 20"))["used"] == []


async def test_what_the_observation_says_by_itself_is_no_news(tmp_path):
    see = f"17 shows owl first\npending 17\n{DOWN}"
    assert (await one_use(tmp_path, "17 owl", "flip 17", see))["used"] == []


async def test_what_was_asked_for_is_no_news(tmp_path):
    assert (await one_use(tmp_path, "17 owl", "say owl", "nothing here"))["used"] == []


async def test_a_word_of_the_games_instruction_is_no_news(tmp_path):
    row = await one_use(tmp_path, "table owl", "place table", "grass", instruction="place table")
    assert row["used"] == []
    assert (await one_use(tmp_path / "b", "table owl", "place table", "grass"))["used"] == [0]


async def test_reasoning_that_names_the_line_shows_its_use(tmp_path):
    thought = "My notes put the owl at card 17.\n<|ACTION|>next<|END|>"
    assert (await one_use(tmp_path, "17 owl", thought))["named"] == ["17"]
    assert (await one_use(tmp_path / "b", "17 owl", "Hm.\n<|ACTION|>next<|END|>"))["used"] == []


async def test_what_log_reads_is_not_in_the_context_of_the_action(tmp_path):
    steps = [Told("new deck"), Told("17 shows owl", (append("17 owl"),)),
             Told("nothing", (search("owl"),), (), "flip 17"), Told("the end")]  # fmt: skip
    [row] = table(await play_told(tmp_path, steps), "retrievals")
    assert (row["routine"], row["used"]) == ("log", [])


async def test_lines_that_the_prompt_shows_know_their_writers(tmp_path):
    scaffold = make_scaffold(files=(FileSchema("notes.txt", show_last=2),))
    steps = [Told("new deck"), Told("a", (append("03 fox"),)), Told("b", (append("17 owl"),)),
             Told("c", (append("20 elk"),), (), "flip 17"), Told("the end")]  # fmt: skip
    found = [r for r in table(await play_told(tmp_path, steps, scaffold), "retrievals")
             if r["step"] == 3]  # fmt: skip
    assert [(r["op"], r["index"], r["used"]) for r in found] == [("SHOWN", -1, [0])]
    assert [w["step"] for w in found[0]["writers"]] == [2, 3]


async def test_a_written_line_tells_its_whole_life(tmp_path):
    steps = [
        Told("new deck"),
        Told("a", (append("17 owl"),)),
        Told("b", (append("17 owl"),)),
        Told("c", (append("17 fox"),), (search("owl"),), "flip 17"),
        Told("d", ("<|REPLACE|>notes.txt|17 fox|17 elk<|END|><|DONE|>",)),
        Told("the end"),
    ]
    found = {(r["step"], r["text"]): r for r in table(await play_told(tmp_path, steps), "writes")}
    first, again, other = found[1, "17 owl"], found[2, "17 owl"], found[3, "17 fox"]
    assert (first["repeats"], again["repeats"]) == (False, True)
    assert (first["retrieved"], first["first_retrieved"]) == (1, 3)
    assert (first["used"], first["first_used"], first["ended"]) == (1, 3, None)
    assert (other["retrieved"], other["ended"], other["ended_by"]) == (0, 4, "REPLACE")
    assert (first["contradicted"], other["contradicted"]) == (3, None)
    assert first["routine"] == "log"


async def test_show_and_tables_agree_on_what_was_used(tmp_path):
    steps = [Told("new deck"), Told("17 shows owl", (append("17 owl"),)),
             Told("owl first", (), (search("owl"),), "flip 17"), Told("the end")]  # fmt: skip
    events = await play_told(tmp_path, steps)
    [told] = tell(events).steps[2].retrievals
    [row] = table(events, "retrievals")
    assert (told.used, told.lines, told.argument) == (row["used"], ["17 owl"], row["argument"])


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        ("05 shows owl\npending 05\ndown 01 02 03", {"05", "shows", "owl", "pending", "down"}),
        ("two left: 07 09", {"two", "left", "07", "09"}),
        ("down 0003-0017 0020-0100", {"down"}),
        ("exits: north, south, east, west; a lamp", {"exits", "a", "lamp"}),
        ("at 12, 7 of 100", {"at", "12", "7", "of", "100"}),
    ],
)
def test_members_of_a_list_are_not_singled_out(observation, expected):
    assert singled_out(observation) == expected
