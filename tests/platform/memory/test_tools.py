"""The tools dialect: operations as tool calls, native or spelled in text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automem.engine.protocol import ToolCall
from automem.memory.dialects.base import Commit, Done, Item, Malformed, Value
from automem.memory.dialects.tools import ToolsDialect
from automem.memory.ops import (
    OPS,
    AnyOp,
    Append,
    List,
    OpResult,
    OpStatus,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
)

DIALECT = ToolsDialect()
FIELD = st.text(max_size=30)
FILE = FIELD.filter(lambda name: not name.startswith("/memories/"))
ANY_OP = st.one_of(
    st.builds(Read, FILE),
    st.builds(Search, FILE, FIELD),
    st.builds(Tail, FILE, st.integers(0, 999_999_999)),
    st.builds(List),
    st.builds(Append, FILE, FIELD),
    st.builds(Upsert, FILE, FIELD, FIELD),
    st.builds(Replace, FILE, FIELD, FIELD),
)


def values(text: str) -> list[Value]:
    return [item.value for item in DIALECT.parse(text)]


def native(name: str, arguments: str) -> Value:
    (item,) = DIALECT.parse("thinking aloud", [ToolCall("call-1", name, arguments)])
    assert item.call_id == "call-1"
    return item.value


@settings(max_examples=300, deadline=None)
@given(ANY_OP)
def test_an_operation_printed_and_parsed_is_the_same(op: AnyOp) -> None:
    text = DIALECT.print(op)
    assert DIALECT.parse(text) == [Item(op, 0, len(text))]


@pytest.mark.parametrize("value", [Commit("flip 05"), Done(), List(), Append("a", "</tool_call>")])
def test_what_ends_a_routine_is_printed_and_parsed(value: AnyOp | Commit | Done) -> None:
    assert values(f"well, {DIALECT.print(value)} there") == [value]


def test_calls_in_the_text_come_in_its_order_and_know_their_place() -> None:
    ops = [Append("a", "x"), Read("a"), Append("a", "y")]
    text = " then ".join(DIALECT.print(op) for op in ops)
    items = DIALECT.parse(text)
    assert [item.value for item in items] == ops
    assert [text[item.start : item.end] for item in items] == [DIALECT.print(op) for op in ops]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name":"read","arguments":{"file":"a.txt"}}</tool_call>',
        '<TOOL_CALL> {"name": "READ", "arguments": {"file": "a.txt"}} </ tool_call>',
        '<tool_call>\n```json\n{"name":"read","arguments":{"file":"a.txt"}}\n```\n</tool_call>',
        '<tool_call>{"name":"read","parameters":{"file":"a.txt"}}',
        '<tool_call>{"name":"read","arguments":"{\\"file\\": \\"a.txt\\"}"}</tool_call>',
        '<tool_call>{"name":"read","arguments":{"file":"/memories/a.txt"}}</tool_call>',
    ],
)
def test_a_call_is_read_however_models_spell_it(text: str) -> None:
    (item,) = DIALECT.parse(text)
    assert item == Item(Read("a.txt"), 0, len(text))


def test_numbers_and_texts_stand_in_for_each_other() -> None:
    assert native("tail", '{"file": "a", "lines": "10"}') == Tail("a", 10)
    assert native("tail", '{"file": "a", "lines": 10.0}') == Tail("a", 10)
    assert native("upsert", '{"file": "a", "key": 5, "text": 1.5}') == Upsert("a", "5", "1.5")


def test_a_newline_in_a_string_is_taken_as_meant() -> None:
    assert native("append", '{"file": "a", "text": "one\ntwo"}') == Append("a", "one\ntwo")


@pytest.mark.parametrize(
    "arguments",
    ["{", "nonsense", "[]", "3", '"text"', "[" * 100_000, '{"file": 1' + "0" * 5000 + "}"],
    ids=lambda text: text[:12],
)
def test_broken_json_is_answered_with_an_example(arguments: str) -> None:
    value = native("search", arguments)
    assert isinstance(value, Malformed)
    assert '{"name": "search", "arguments": {"file": "...", "keyword": "..."}}' in value.message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", "{}"),
        ("read", '{"file": null}'),
        ("read", '{"file": ["a"]}'),
        ("read", '{"file": "a", "mode": "r"}'),
        ("tail", '{"file": "a", "lines": -1}'),
        ("tail", '{"file": "a", "lines": true}'),
        ("tail", '{"file": "a", "lines": 1e99}'),
        ("append", '{"file": "a", "text": "\\ud800"}'),
        ("commit_action", "{}"),
    ],
)
def test_arguments_that_do_not_fit_are_answered_with_the_right_form(
    name: str, arguments: str
) -> None:
    value = native(name, arguments)
    assert isinstance(value, Malformed)
    assert f'{name} is called {{"name": "{name}"' in value.message


def test_an_unknown_tool_is_answered_with_the_nearest() -> None:
    value = native("serch", "{}")
    assert isinstance(value, Malformed)
    assert "did you mean search" in value.message
    value = native("zzzzzzzz", "{}")
    assert isinstance(value, Malformed)
    assert "commit_action" in value.message


def test_an_unclosed_call_swallows_nothing() -> None:
    text = '<tool_call>{"name": "read", "argu <tool_call>{"name":"list","arguments":{}}</tool_call>'
    broken, good = values(text)
    assert isinstance(broken, Malformed)
    assert good == List()


@pytest.mark.parametrize("echo", ["action", "<action>", "...", "", "  "])
def test_an_echoed_placeholder_is_no_commit(echo: str) -> None:
    assert isinstance(native("commit_action", json.dumps({"action": echo})), Malformed)


def test_a_commit_and_done_are_tools() -> None:
    assert native("commit_action", '{"action": "north"}') == Commit("north")
    assert native("done", "") == Done()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["<tool_call>", "<", " ", "{", "<tool_call>{", '"', "\\"])
def test_much_of_anything_parses_in_good_time(piece: str) -> None:
    text = piece * (50_000 // len(piece))
    for spelled in (text, f"<tool_call>{text}", f"<tool_call>[{text}</tool_call>"):
        DIALECT.parse(spelled)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_makes_the_parser_raise(text: str, arguments: str) -> None:
    DIALECT.parse(f"<tool_call>{text}</tool_call>{text}", [ToolCall("1", text, arguments)])
    DIALECT.parse("", [ToolCall("1", "read", arguments)])


def test_native_calls_are_answered_each_and_text_calls_together() -> None:
    items = DIALECT.parse(DIALECT.print(Read("a")), [ToolCall("1", "list", "{}")])
    ok = OpResult(OpStatus.OK, "ok")
    tool, user = DIALECT.answer([(item, ok) for item in items])
    assert (tool.role, tool.content, tool.tool_call_id) == ("tool", "ok", "1")
    assert (user.role, user.content) == ("user", "# results\nREAD a\nok")


def test_definitions_cover_the_vocabulary_and_what_ends_the_routine() -> None:
    def names(commits: bool) -> list[str]:
        return [
            tool["function"]["name"] for tool in DIALECT.tool_schemas(("READ", "TAIL"), commits)
        ]

    assert names(True) == ["read", "tail", "commit_action"]
    assert names(False) == ["read", "tail", "done"]


def test_every_operation_has_a_definition_that_its_own_call_meets() -> None:
    for tool in DIALECT.tool_schemas(tuple(OPS), True):
        function = tool["function"]
        assert tool["type"] == "function"
        assert function["description"]
        example = {
            name: 3 if schema["type"] == "integer" else "text"
            for name, schema in function["parameters"]["properties"].items()
        }
        assert sorted(example) == sorted(function["parameters"]["required"])
        assert not isinstance(native(function["name"], json.dumps(example)), Malformed)
