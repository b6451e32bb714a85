"""Known defects of the reference implementation, each a test named after it."""

from collections.abc import Callable
from pathlib import Path

from automem.memory.dialects.base import Commit, Done, Malformed
from automem.memory.dialects.tags import TagsDialect
from automem.memory.ops import (
    AnyOp,
    Append,
    Count,
    Create,
    List,
    OpResult,
    OpStatus,
    Read,
    Search,
    Tail,
    Write,
)
from automem.memory.sandbox import Sandbox

Do = Callable[[AnyOp], OpResult]


def test_ops_grouped_by_type_instead_of_text_order() -> None:
    text = (
        "<|APPEND|>a|1<|END|><|READ|>a<|END|><|APPEND|>a|2<|END|><|SEARCH|>a|1<|END|>"
        "<|READ|>b<|END|><|WRITE|>a|3<|END|><|DONE|>"
    )
    assert [item.value for item in TagsDialect().parse(text)] == [
        Append("a", "1"),
        Read("a"),
        Append("a", "2"),
        Search("a", "1"),
        Read("b"),
        Write("a", "3"),
        Done(),
    ]


def test_an_unclosed_tag_swallowing_the_next_op() -> None:
    text = "<|APPEND|>a|one\n<|APPEND|>a|two<|END|>"
    assert [item.value for item in TagsDialect().parse(text)] == [
        Append("a", "one"),
        Append("a", "two"),
    ]


def test_a_first_action_that_echoes_the_placeholder_taken_as_the_action() -> None:
    text = "I answer with <|ACTION|>action<|END|>: <|ACTION|>Move North<|END|>"
    echoed, real = (item.value for item in TagsDialect().parse(text))
    assert isinstance(echoed, Malformed)
    assert real == Commit("Move North")


def test_names_with_nul_or_300_characters_raising_out_of_an_op(do: Do) -> None:
    for name in ("a\x00b.txt", "x" * 300, "x/" * 150 + "a"):
        for op in (Read(name), Search(name, "k"), Tail(name, 1), Count(name, "k"), Create(name)):
            assert do(op).status is OpStatus.ERROR


def test_tail_0_returning_everything(do: Do) -> None:
    do(Write("a.txt", "one\ntwo\nthree"))
    assert do(Tail("a.txt", 0)) == OpResult(OpStatus.EMPTY, "empty")


def test_one_non_utf8_file_breaking_all(do: Do, folder: Path) -> None:
    do(Write("good.txt", "good"))
    (folder / "bad.txt").write_bytes(b"\xff\xfebad")
    assert do(Read("good.txt")).text == "good"
    assert do(Search("*", "good")).text == "good.txt: good\n... could not search bad.txt"
    assert do(List()).text == "bad.txt 1\ngood.txt 1"
    assert do(Append("good.txt", "more")).status is OpStatus.OK
    assert "bad.txt is not UTF-8 text" in do(Read("bad.txt")).text


def test_symlinks_followed(do: Do, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret\n")
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "up").symlink_to("..")
    for op in (Read("link.txt"), Append("link.txt", "x"), Read("up/secret.txt"), Create("up/x")):
        assert do(op).status is OpStatus.ERROR
    assert (tmp_path / "secret.txt").read_text() == "secret\n"
    assert do(Search("*", "secret")).status is OpStatus.EMPTY


def test_no_quotas(do: Do, sandbox: Sandbox) -> None:
    results = [do(Append("a.txt", "x" * 500)) for _ in range(10)]
    assert results[-1].status is OpStatus.ERROR
    assert sandbox.sizes()["a.txt"] <= sandbox.quota.file_bytes
    assert any(do(Create(f"{n}.txt")).status is OpStatus.ERROR for n in range(10))
