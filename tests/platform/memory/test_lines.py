"""Lines, searched at memory speed: the answers are those of the plain way of doing it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from automem.memory.lines import (
    Page,
    ResultLimits,
    count_lines,
    find_lines,
    first_lines,
    last_lines,
    lines_starting,
)

TEXT = st.text(alphabet=st.sampled_from("aAbB\n éÉß\r\u2028x"), max_size=60)


def plain_lines(text: str) -> list[tuple[int, str]]:
    """1-based lines; only a newline ends one."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return list(enumerate(lines, 1))


@given(TEXT, st.integers(0, 12))
def test_first_and_last_lines_are_those_of_the_text(text: str, limit: int) -> None:
    data, lines = text.encode(), plain_lines(text)
    assert count_lines(data) == len(lines)
    assert list(first_lines(data, limit)) == lines[:limit]
    assert last_lines(data, limit, len(lines)) == lines[max(0, len(lines) - limit) :]


@given(TEXT, st.text(alphabet="abAB x", min_size=1, max_size=3), st.integers(0, 9))
def test_a_search_finds_the_lines_that_hold_the_keyword(
    text: str, keyword: str, limit: int
) -> None:
    expected = [(n, line) for n, line in plain_lines(text) if keyword.lower() in ascii_lower(line)]
    found, total = find_lines(text.encode(), keyword, limit, chars=10_000)
    assert (found, total) == (expected[:limit], len(expected))


@given(TEXT, st.sampled_from(["é", "É", "ß", "Éa"]))
def test_a_search_folds_letters_beyond_ascii_too(text: str, keyword: str) -> None:
    lines = [(n, line) for n, line in plain_lines(text) if keyword.casefold() in line.casefold()]
    assert find_lines(text.encode(), keyword, 100, chars=10_000) == (lines, len(lines))


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=300, max_size=600), st.integers(0, 200))
def test_many_hits_are_counted_to_the_last(hits: list[bool], limit: int) -> None:
    text = "\n".join("a key here key" if hit else "nothing" for hit in hits)
    found, total = find_lines(text.encode(), "KEY", limit, chars=100_000)
    assert total == sum(hits)
    assert len(found) == min(limit, total)


def test_a_page_stops_where_it_has_no_room() -> None:
    page = Page(ResultLimits(chars=12, lines=10))
    lines = list(enumerate(["first", "second", "third"], 1))
    page.cut = len(lines) - page.show(lines, "f")
    assert page.text() == "first\n... 2 more lines not shown"
    assert page.lines == {"f": [1]}


def test_a_single_line_that_is_too_long_shows_its_beginning() -> None:
    page = Page(ResultLimits(chars=10, lines=10))
    assert page.show([(1, "abcdefghijklmnop")], "f") == 1
    assert page.text() == "abcdef ..."


def ascii_lower(text: str) -> str:
    """Only A to Z, as an ASCII keyword is compared."""
    return text.encode().lower().decode()


@given(st.lists(st.sampled_from(["1", "12", "2: a", "1: b", "é", ""]), max_size=9), st.booleans())
def test_lines_that_start_alike_are_found_in_small_and_large_files(
    texts: list[str], is_large: bool
) -> None:
    filling = ["filling " * 20] * 40 if is_large else []
    lines = [*texts, *filling, *texts]
    data = "\n".join(lines).encode()
    found = [data[start:end].decode() for start, end in lines_starting(data, b"1")]
    assert found == [line for line in lines if line.startswith("1")]
