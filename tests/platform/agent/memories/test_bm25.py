"""Retrieval by BM25 over a log that grows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from automem.agent.memories.bm25 import Bm25Index

LINES = ["05 owl", "06 panda", "07 owl", "08 a lion sleeps in the long grass of the owl", "05 fox"]


def index_of(lines: list[str]) -> Bm25Index:
    index = Bm25Index()
    index.add(lines)
    return index


def test_lines_that_share_rare_words_come_first_and_newer_ones_before_older() -> None:
    index = index_of([*LINES, *["the game goes on"] * 20])
    assert index.find("17 owl", 10, before=25) == ([2, 0, 3], 3)
    assert index.find("panda", 10, before=25) == ([1], 1)


def test_only_lines_before_the_given_one_and_no_more_than_asked_for_are_found() -> None:
    index = index_of([*LINES, *["the game goes on"] * 20])
    assert index.find("owl", 10, before=2) == ([0], 1)
    assert index.find("owl", 1, before=25) == ([2], 3)


def test_a_query_without_a_shared_word_finds_nothing() -> None:
    index = index_of(LINES)
    assert index.find("tiger", 10, before=5) == ([], 0)
    assert index.find("", 10, before=5) == ([], 0)
    assert index.find("?! ... /", 10, before=5) == ([], 0)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.text("ab 05\"*'()^-+:{}", max_size=12), max_size=12),
    query=st.text("ab 05\"*'()^-+:{} ORANDNEAR", max_size=20),
    cut=st.integers(0, 12),
)
def test_what_is_found_does_not_depend_on_how_the_lines_came(
    lines: list[str], query: str, cut: int
) -> None:
    whole, grown = index_of(lines), index_of(lines[:cut])
    grown.add(lines[cut:])
    found = whole.find(query, 5, before=len(lines))
    assert found == grown.find(query, 5, before=len(lines))
    grown.clear()
    assert grown.find(query, 5, before=len(lines)) == ([], 0)
