"""Seeds handed out once, whatever died in between."""

from pathlib import Path

import pytest

from automem.errors import StoreError, UsageError
from automem.loops.seedbook import SeedBook
from automem.seeds import SeedRange, seed_range


def test_no_confirm_seed_is_handed_out_twice(tmp_path: Path) -> None:
    first = SeedBook(tmp_path / "seeds.jsonl").take(SeedRange.CONFIRM, 64, "revision-1")
    second = SeedBook(tmp_path / "seeds.jsonl").take(SeedRange.CONFIRM, 64, "revision-2")
    assert not set(first) & set(second)
    assert set(first) | set(second) <= set(seed_range(SeedRange.CONFIRM))


def test_a_killed_loop_gets_the_seeds_it_had_drawn(tmp_path: Path) -> None:
    book = SeedBook(tmp_path / "seeds.jsonl")
    assert book.take(SeedRange.CONFIRM, 8, "a") == book.take(SeedRange.CONFIRM, 8, "a")
    assert [draw.purpose for draw in book.draws()] == ["a"]


def test_a_torn_last_line_was_never_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    first = SeedBook(path).take(SeedRange.TRAIN, 4, "a")
    with path.open("ab") as file:
        file.write(b'{"purpose":"b","ran')
    second = SeedBook(path).take(SeedRange.TRAIN, 4, "b")
    assert second[0] == first[-1] + 1
    assert len(SeedBook(path).draws()) == 2


def test_a_damaged_book_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(StoreError, match="damaged"):
        SeedBook(path).take(SeedRange.TRAIN, 4, "a")


def test_final_seeds_are_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="final"):
        SeedBook(tmp_path / "seeds.jsonl").take(SeedRange.FINAL, 4, "a")


def test_a_purpose_whose_size_changed_in_the_middle_is_refused(tmp_path: Path) -> None:
    book = SeedBook(tmp_path / "seeds.jsonl")
    book.take(SeedRange.CONFIRM, 8, "a")
    with pytest.raises(UsageError, match="settings changed"):
        book.take(SeedRange.CONFIRM, 9, "a")
