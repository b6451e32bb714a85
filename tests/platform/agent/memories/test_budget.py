"""Lines within a budget of tokens, and what is said of the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agent_harness import ByteCounter

from automem.agent.memories.budget import best_within, newest_within

COUNTER = ByteCounter()
LINES = [f"line {number}" for number in range(20)]


def test_everything_is_shown_where_it_fits() -> None:
    assert newest_within(LINES[:2], 0, 100, COUNTER) == "line 0\nline 1"
    assert newest_within([], 0, 100, COUNTER) == ""


def test_what_is_older_is_counted_in_a_first_line() -> None:
    text = newest_within(LINES, 3, 100, COUNTER)
    assert text == "... 17 more lines not shown\nline 17\nline 18\nline 19"


def test_the_note_is_part_of_the_budget() -> None:
    note = "... 20 more lines not shown"
    assert newest_within(LINES, 0, len(note), COUNTER) == note
    assert newest_within(LINES, 0, len(note) - 1, COUNTER) == ""
    assert newest_within(LINES, 0, len(note) + 8, COUNTER).splitlines()[1:] == ["line 19"]


def test_the_best_lines_are_shown_in_their_own_order() -> None:
    assert best_within(LINES, [7, 3], 2, 100, COUNTER) == "line 3\nline 7"
    assert best_within(LINES, [7, 3], 5, 100, COUNTER) == (
        "line 3\nline 7\n... 3 more lines not shown"
    )
    assert best_within(LINES, [7, 3], 5, 36, COUNTER) == "line 7\n... 4 more lines not shown"


@given(
    lines=st.lists(st.text("abé ", max_size=30), max_size=30),
    most=st.integers(0, 30),
    tokens=st.integers(0, 200),
)
def test_no_budget_is_ever_exceeded_and_no_line_unaccounted_for(
    lines: list[str], most: int, tokens: int
) -> None:
    ranked = range(0, len(lines), 2)
    newest = newest_within(lines, most, tokens, COUNTER)
    best = best_within(lines, ranked, len(ranked), tokens, COUNTER)
    for text, place, total in ((newest, 0, len(lines)), (best, -1, len(ranked))):
        assert COUNTER.count(text) <= tokens or not text
        told = text.split("\n") if text else []
        if told and told[place].startswith("... "):
            assert len(told) - 1 + int(told[place].split()[1]) == total


@pytest.mark.parametrize("size", [0, 1, 50_000])
def test_a_long_log_is_not_counted_from_its_beginning(size: int) -> None:
    class Counting:
        seen = 0

        def count(self, text: str) -> int:
            self.seen += len(text)
            return len(text)

    counter = Counting()
    newest_within(["x" * 40] * size, 0, 200, counter)
    assert counter.seen < 2_000
