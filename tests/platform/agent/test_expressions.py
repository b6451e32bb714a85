"""The language of notices: what it says, what it refuses, and that it cannot tell a secret."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automem.agent.expressions import ExpressionError, Facts, compile_expression

FACTS = Facts(
    observation="health 3/9\nfood 7/9\na zombie attacks",
    action="move north",
    changed=False,
    unchanged_for=4,
    repeated_for=2,
    oscillating_for=0,
    lines={"map.txt": 61},
    sizes={"map.txt": 900},
    fields={"wood": 5, "facing": "tree"},
)
FILES = ("map.txt", "goals.txt")


def value(text: str) -> object:
    return compile_expression(text, FILES, has_parser=True).value(FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "unchanged_for >= 3 and not changed",
        'number("health {n}/9") < 4',
        'number("food {n}/9") - number("health {n}/9") == 4',
        'sees("zombie attacks") or sees("skeleton")',
        'word("a {what} attacks") == "Zombie"',
        'did("move {where}")',
        'lines("map.txt") > 60 and bytes("map.txt") < 1000',
        'exists("map.txt") and not exists("goals.txt")',
        'files == 1 and lines("goals.txt") == 0',
        'number_field("wood") >= 5 and text_field("facing") != "water"',
        "-unchanged_for * 2 + 1 == -7",
        "repeated_for > oscillating_for",
    ],
)
def test_a_condition_speaks_of_what_the_agent_could_see(text: str) -> None:
    assert value(text) is True


def test_what_the_observation_does_not_hold_has_no_value() -> None:
    assert value('number("mana {n}")') is None
    assert value('number("a {n} attacks")') is None, "a word is no number"
    assert value('number("mana {n}") < 4') is None
    condition = compile_expression('not number("mana {n}") < 4', FILES, has_parser=True)
    assert not condition.holds(FACTS)
    assert value('number("mana {n}") < 4 or changed or files == 1') is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('search("map.txt", "owl")', "would tell what only memory holds"),
        ("last_line", "would tell what only memory holds"),
        ('content("map.txt") == "owl"', "would tell what only memory holds"),
        ("previous_observation", "use show_last"),
        ("unchangd_for > 2", "did you mean 'unchanged_for'"),
        ('lines("maps.txt") > 3', "declares no file 'maps.txt'; did you mean 'map.txt'"),
        ("lines(3) > 3", "takes one text in quotes"),
        ('sees("{a")', "without its partner"),
        ('number("health") < 3', "needs one {name}"),
        ("action > 3", "expected a number in the place of 'action', which is a text"),
        ('action == "a" == "b"', "one comparison at a time"),
        ("action.upper()", "is not allowed"),
        ("__import__('os')", "no '__import__'"),
        ("[x for x in files]", "is not allowed"),
        ("9 ** 9 > 1", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("sees('a'", "cannot read"),
        ("(" * 300, "cannot read"),
        ("not " * 90 + "changed", "too long"),
        ("", "1 to 400 characters"),
        ('number_field("wood") > 3', "needs a hooks.py"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, FILES, has_parser=False)
    assert message in str(caught.value)


@given(st.text(alphabet="abc()+-*<>=!'\"{}[]., 019notadr_\x00\\", max_size=80))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        compile_expression(text, FILES, has_parser=True).value(FACTS)
