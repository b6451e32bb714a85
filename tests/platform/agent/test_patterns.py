"""Patterns: what they find, what they refuse, and that nobody can make them slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automem.agent.patterns import Pattern, PatternError, check_names, fill, holds_words


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        ("{card} shows {rank} match", "05 shows owl match", [{"card": "05", "rank": "owl"}]),
        ("{card} shows {rank} match", "05 shows owl miss", []),
        ("shows {rank*} match", "05 shows red owl match", [{"rank": "red owl"}]),
        ("health {n}/9", "Health   3/9, food 4/9", [{"n": "3"}]),
        ("at {x},{y}", "tree at -3,14; cow at 2,2", [{"x": "-3", "y": "14"}, {"x": "2", "y": "2"}]),
        ("cow", "a cowboy", []),
        ("a zombie", "you see A Zombie.", [{}]),
    ],
)
def test_a_pattern_finds_words_by_their_place(pattern: str, line: str, found: list) -> None:
    assert list(Pattern(pattern).find(line)) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "1 to 200 characters"),
        ("a\nb", "one line"),
        ("{a}{b}", "needs a space or a sign"),
        ("{a}b", "needs a space or a sign"),
        ("{a", "without its partner"),
        ("{A}", "small letters"),
        ("{a} {a}", "twice"),
        ("{a*} and {b*}", r"only one \{name\*\}"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused_in_words(pattern: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        Pattern(pattern)


def test_a_text_may_only_name_what_its_pattern_found() -> None:
    check_names("drop {rank}", ("rank",))
    with pytest.raises(PatternError, match=r"\{suit\} is not in the pattern; there are: \{rank\}"):
        check_names("drop {suit}", ("rank",))
    assert fill("drop {rank}", {"rank": "owl"}) == "drop owl"


def test_whole_words_are_told_from_parts_of_words() -> None:
    assert holds_words("05 owl", "OWL")
    assert holds_words("owls, owl", "owl")
    assert not holds_words("05 owls", "owl")
    assert not holds_words("105 owl", "05")
    assert not holds_words("x", " ")


@given(st.text(alphabet="ab {}*,.-_\\[(+?$^", max_size=60), st.text("ab ,.-", max_size=80))
def test_any_text_is_a_pattern_or_is_refused(pattern: str, line: str) -> None:
    try:
        compiled = Pattern(pattern)
    except PatternError:
        return
    for found in compiled.find(line):
        assert set(found) == set(compiled.names)


@pytest.mark.parametrize(
    "pattern", ["{a*} x {b} {c} {d} end", "{a} {b} {c} {d} {e} end", "a a a a"]
)
def test_no_pattern_takes_long_on_a_long_line(pattern: str) -> None:
    began = time.process_time()
    list(Pattern(pattern).find("a " * 50_000))
    list(Pattern(pattern).find("a" * 100_000))
    assert time.process_time() - began < 2.0
