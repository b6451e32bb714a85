"""The tags dialect: everything FACTS.md shows parses, what models do to it parses, and the rest is
answered with what to write."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from automem.memory.dialects.base import Commit, Done, Item, Malformed, Value
from automem.memory.dialects.tags import TagsDialect
from automem.memory.ops import (
    OPS,
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
    List,
    OpResult,
    OpStatus,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
    Write,
)

DIALECT = TagsDialect()


def values(text: str) -> list[Value]:
    return [item.value for item in DIALECT.parse(text)]


def only(text: str) -> Value:
    (value,) = values(text)
    return value


def complaint(text: str) -> str:
    value = only(text)
    assert isinstance(value, Malformed)
    return value.message


# Conformance: the forms of the paper

FORMS: list[tuple[str, Value]] = [
    ("<|SEARCH|>file|keyword<|END|>", Search("file", "keyword")),
    ("<|READ|>file<|END|>", Read("file")),
    ("<|TAIL|>file|10<|END|>", Tail("file", 10)),
    ("<|COUNT|>file|keyword<|END|>", Count("file", "keyword")),
    ("<|APPEND|>file|text<|END|>", Append("file", "text")),
    ("<|WRITE|>file|text<|END|>", Write("file", "text")),
    ("<|CREATE|>file<|END|>", Create("file")),
    ("<|LIST|><|END|>", List()),
    ("<|UPSERT|>file|key|text<|END|>", Upsert("file", "key", "text")),
    ("<|REPLACE|>file|old|new<|END|>", Replace("file", "old", "new")),
    ("<|DELETE|>file<|END|>", Delete("file")),
    ("<|DONE|>", Done()),
    ("<|ACTION|>north<|END|>", Commit("north")),
]


@pytest.mark.parametrize(("text", "value"), FORMS)
def test_every_form_is_read_and_printed_as_the_paper_has_it(text: str, value: Value) -> None:
    assert only(text) == value
    assert not isinstance(value, Malformed)
    assert DIALECT.print(value) == text


@pytest.mark.parametrize(("text", "value"), FORMS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("|>", ">").replace("<|", "<"),
        lambda text: text.replace("|>", ">"),
        lambda text: text.replace("<|", "<"),
        lambda text: text.lower(),
        lambda text: text.title(),
        lambda text: f"```\n{text}\n```",
        lambda text: f"```text\n{text}```",
        lambda text: f"I should do this: `{text}`, then go on.",
        lambda text: text.replace("<|END|>", "\n<END>").replace("|>", " |>"),
        lambda text: text.replace("<|END|>", "<|end|>"),
        lambda text: text.replace("<|END|>", "<|im_end|>"),
        lambda text: text.replace("<|END|>", ""),
        lambda text: text.replace("<|END|>", "\n"),
    ],
)
def test_every_form_is_read_however_models_spoil_it(
    spoil: Callable[[str], str], text: str, value: Value
) -> None:
    found = only(spoil(text))
    if isinstance(found, Malformed):
        # A text at the end of a turn may be torn: those two are asked for again.
        assert not any(word in spoil(text).lower() for word in ("end|>", "<end>"))
        assert isinstance(value, Write | Replace)
        assert "was not closed" in found.message
    else:
        assert _folded(found) == _folded(value)


def _folded(value: Value) -> str:
    return repr(value).lower()


def test_a_closing_tag_of_the_same_name_ends_an_operation() -> None:
    assert only("<APPEND>a.txt|text</APPEND>") == Append("a.txt", "text")


# Text order and unclosed tags


def test_items_come_in_the_order_of_the_text_and_know_their_place() -> None:
    text = "first <|APPEND|>a|x<|END|> then <|READ|>a<|END|>, <|APPEND|>a|y<|END|> <|DONE|>"
    items = DIALECT.parse(text)
    assert [item.value for item in items] == [Append("a", "x"), Read("a"), Append("a", "y"), Done()]
    assert [text[item.start : item.end] for item in items] == [
        "<|APPEND|>a|x<|END|>",
        "<|READ|>a<|END|>",
        "<|APPEND|>a|y<|END|>",
        "<|DONE|>",
    ]


def test_an_unclosed_tag_ends_at_the_next() -> None:
    assert values("<|READ|>a.txt\n<|APPEND|>b.txt|text\n<|SEARCH|>c.txt|key<|END|>") == [
        Read("a.txt"),
        Append("b.txt", "text"),
        Search("c.txt", "key"),
    ]


def test_an_unclosed_one_line_operation_leaves_the_prose_behind_it() -> None:
    text = "<|SEARCH|>a.txt|key\nThat should show where it is."
    (item,) = DIALECT.parse(text)
    assert item == Item(Search("a.txt", "key"), 0, text.index("\n"))


def test_an_unclosed_text_of_several_lines_is_asked_for_again() -> None:
    message = complaint("<|APPEND|>a.txt|one\nNow I will look at the map.")
    assert message == "APPEND was not closed; write <|APPEND|>file|text<|END|>"


@pytest.mark.parametrize("text", ["<|WRITE|>a.txt|half a fi", "<|REPLACE|>a.txt|old|ne"])
def test_a_replacement_torn_at_the_end_of_a_turn_is_asked_for_again(text: str) -> None:
    assert "was not closed" in complaint(text)


def test_a_replacement_before_another_tag_is_whole() -> None:
    assert values("<|WRITE|>a.txt|all of it\n<|DONE|>") == [Write("a.txt", "all of it"), Done()]


def test_list_and_done_need_no_end() -> None:
    assert values("<|LIST|>\n<|DONE|>") == [List(), Done()]
    assert values("<|LIST|> <|END|><|DONE|><|END|><|READ|>a<|END|>") == [List(), Done(), Read("a")]


def test_a_stray_end_means_nothing() -> None:
    assert values("<|END|> bla <|END|>") == []


# Fields


def test_the_last_field_may_hold_bars() -> None:
    assert only("<|APPEND|>a|x | y | z<|END|>") == Append("a", "x | y | z")
    assert only("<|UPSERT|>a|k|x|y<|END|>") == Upsert("a", "k", "x|y")
    assert only("<|SEARCH|>a|x|y<|END|>") == Search("a", "x|y")


def test_white_space_around_fields_is_dropped_and_lines_inside_are_kept() -> None:
    assert only("<|APPEND|> a.txt | one\n  two\n<|END|>") == Append("a.txt", "one\n  two")


def test_escapes_make_bars_and_tags_ordinary() -> None:
    assert only(r"<|REPLACE|>a|x\|y|z<|END|>") == Replace("a", "x|y", "z")
    assert only(r"<|APPEND|>a|write \<|END|> to end<|END|>") == Append("a", "write <|END|> to end")
    assert only(r"<|APPEND|>a|C:\dir \d+<|END|>") == Append("a", r"C:\dir \d+")


@pytest.mark.parametrize("markup", ["<b>bold</b>", "a < b > c", "<think>", "<done>", "<read a>"])
def test_markup_in_a_note_stays_in_the_note(markup: str) -> None:
    text = f"It said {markup} there"
    assert only(f"<|APPEND|>a|{text}<|END|>") == Append("a", text)


def test_a_note_that_mentions_an_action_is_not_an_action() -> None:
    text = "then <action> north, as before"
    assert values(f"<|APPEND|>a|{text}<|END|>") == [Append("a", text)]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("<|READ|><|END|>", "<|READ|>file<|END|>"),
        ("<|READ|>a.txt|x<|END|>", "<|READ|>file<|END|>"),
        ("<|SEARCH|>key<|END|>", "<|SEARCH|>file|keyword<|END|>"),
        ("<|APPEND|>just a text<|END|>", "<|APPEND|>file|text<|END|>"),
        ("<|APPEND|>|text<|END|>", "<|APPEND|>file|text<|END|>"),
        ("<|UPSERT|>a|key<|END|>", "<|UPSERT|>file|key|text<|END|>"),
        ("<|REPLACE|>a|old<|END|>", "<|REPLACE|>file|old|new<|END|>"),
        ("<|REPLACE|>a|o|l|d<|END|>", "<|REPLACE|>file|old|new<|END|>"),
        ("<|TAIL|>a<|END|>", "<|TAIL|>file|N<|END|>"),
    ],
)
def test_a_wrong_number_of_fields_is_answered_with_the_right_form(text: str, form: str) -> None:
    assert form in complaint(text)


@pytest.mark.parametrize("number", ["ten", "-1", "1.5", "", "٣", "1_000", "9" * 40])
def test_tail_needs_a_number(number: str) -> None:
    assert "TAIL needs a number" in complaint(f"<|TAIL|>a|{number}<|END|>")


# Unknown tags


def test_an_unknown_tag_is_answered_with_the_nearest() -> None:
    assert complaint("<|SERCH|>a|b<|END|>") == (
        "there is no <|SERCH|>; did you mean <|SEARCH|>file|keyword<|END|>?"
    )
    assert "<|APPEND|>file|text<|END|>" in complaint("<APEND>a|b<END>")
    assert "READ, SEARCH" in complaint("<|XYZZY|>a<|END|>")


def test_an_unknown_tag_swallows_nothing() -> None:
    assert values("<|READ|>a<|SERCH|>b|c<|END|><|READ|>d<|END|>")[::2] == [Read("a"), Read("d")]


@pytest.mark.parametrize("text", ["<think>hm</think>", "<table><tr>", "<|think|>", "a <> b", "<3"])
def test_other_markup_is_no_operation(text: str) -> None:
    assert values(text) == []


# Actions


ECHOES = [
    "action",
    "ACTION",
    "your action",
    "your_action",
    "the action",
    "your action here",
    "<action>",
    "<your action>",
    "[your action]",
    "{action}",
    "`action`",
    "action...",
    "...",
    "…",
    "",
]


@pytest.mark.parametrize("echo", ECHOES)
def test_an_echoed_placeholder_is_no_commit(echo: str) -> None:
    assert "that is no action" in complaint(f"<|ACTION|>{echo}<|END|>")


@pytest.mark.parametrize("action", ["north", ">", "<", ".", "x", "Noop", "flip 05", "take action"])
def test_a_real_action_is_a_commit(action: str) -> None:
    assert only(f"<|ACTION|>{action}<|END|>") == Commit(action)


def test_the_first_real_action_counts() -> None:
    text = "<|ACTION|>action<|END|> means I write <|ACTION|> flip 05 <|END|> or <|ACTION|>x<|END|>"
    commits = [value for value in values(text) if isinstance(value, Commit)]
    assert commits[0] == Commit("flip 05")


# Round trip

FIELD = st.text(max_size=30) | st.text(alphabet=st.sampled_from("<|>\\ \n/aENDREAD"), max_size=30)
FILE = FIELD.filter(bool)
NUMBER = st.integers(0, 999_999_999)
ANY_OP = st.one_of(
    st.builds(Read, FILE),
    st.builds(Search, FILE, FIELD),
    st.builds(Tail, FILE, NUMBER),
    st.builds(Count, FILE, FIELD),
    st.builds(List),
    st.builds(Append, FILE, FIELD),
    st.builds(Write, FILE, FIELD),
    st.builds(Create, FILE),
    st.builds(Upsert, FILE, FIELD, FIELD),
    st.builds(Replace, FILE, FIELD, FIELD),
    st.builds(Delete, FILE),
)


@settings(max_examples=500, deadline=None)
@given(ANY_OP)
@example(Search("<", "AA>"))
@example(Replace("\\", "<|END|>", "\\ "))
def test_an_operation_printed_and_parsed_is_the_same(op: AnyOp) -> None:
    text = DIALECT.print(op)
    assert DIALECT.parse(text) == [Item(op, 0, len(text))]


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY_OP, max_size=5), st.sampled_from(["", "\n", " then ", "\n```\n"]))
def test_a_turn_of_printed_operations_parses_to_them(ops: list[AnyOp], between: str) -> None:
    text = between.join(DIALECT.print(op) for op in ops)
    assert [item.value for item in DIALECT.parse(between + text + between)] == ops


@settings(max_examples=500, deadline=None)
@given(FIELD.filter(lambda text: bool(text.strip())))
def test_a_commit_printed_and_parsed_is_the_same_or_a_placeholder(action: str) -> None:
    value = only(DIALECT.print(Commit(action)))
    assert value == Commit(action) or "no action" in getattr(value, "message", "")


TAGS = ["<|READ|>", "<append>", "<|END|>", "</READ>", "<|ACTION|>", "<action>", "<|DONE|>", "<|X|>"]
REST = ["a.txt", "|", "\\", "\n", " ", "```", "text", "<|", "|>", "<|TAIL|>", "9", "<WRITE|>"]
PIECES = st.sampled_from([*TAGS, *REST])


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join))
def test_no_text_makes_the_parser_raise_and_items_do_not_overlap(text: str) -> None:
    position = 0
    for item in DIALECT.parse(text):
        assert position <= item.start < item.end <= len(text)
        position = item.end


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        "<|READ|>",
        "<",
        "\\",
        "|",
        "<|APPEND|>a|",
        "`",
        " ",
        "<READ>a\n",
        "x <read> ",
        "```\n",
        "_",
        "your_",
    ],
)
def test_much_of_anything_parses_in_good_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    for spelled in (text, f"<|REPLACE|>{text}<|END|>", f"<|REPLACE|>{text}", f"<{text}"):
        DIALECT.parse(spelled)
    DIALECT.parse(f"<|ACTION|>{text}action")
    DIALECT.print(Append("a", text))


# Answers


def test_a_turn_is_answered_by_one_message() -> None:
    items = DIALECT.parse("<|SEARCH|>cards.txt|K<|END|><|APPEND|>cards.txt|21 A<|END|><|SERCH|>")
    results = [
        OpResult(OpStatus.OK, "05 K\n17 K", {"cards.txt": [1, 3]}),
        OpResult(OpStatus.OK, "ok"),
        OpResult(OpStatus.ERROR, "error: there is no SERCH"),
    ]
    (reply,) = DIALECT.answer(zip(items, results, strict=True))
    assert reply.role == "user"
    assert reply.content == (
        "# results\nSEARCH cards.txt|K\n05 K\n17 K\nAPPEND cards.txt\nok\n"
        "?\nerror: there is no SERCH"
    )


@pytest.mark.parametrize(
    ("op", "header"),
    [
        (Read("a"), "READ a"),
        (Tail("a", 3), "TAIL a|3"),
        (Count("*", "x"), "COUNT *|x"),
        (List(), "LIST"),
        (Upsert("a", "k", "v"), "UPSERT a"),
        (Replace("a", "o", "n"), "REPLACE a"),
        (Search("a", "two\nlines"), "SEARCH a|two lines"),
    ],
)
def test_a_header_names_the_operation_on_one_line(op: AnyOp, header: str) -> None:
    (reply,) = DIALECT.answer([(Item(op, 0, 0), OpResult(OpStatus.OK, "ok"))])
    assert reply.content.split("\n")[1] == header


def test_nothing_done_is_not_answered() -> None:
    assert DIALECT.answer([]) == []


def test_tags_need_no_tool_definitions() -> None:
    assert DIALECT.tool_schemas(tuple(OPS), True) == ()
