"""What a loop remembers across deaths."""

from pathlib import Path

import msgspec
import pytest
from support.loop_parts import RULE, make_loop, recipe, specialist

from automem.errors import StoreError, UsageError
from automem.loops.gate import Verdict
from automem.loops.ledger import (
    LEDGER,
    Chosen,
    Closed,
    Compared,
    Declared,
    Ledger,
    Picked,
    Trained,
)
from automem.loops.recipes import Selected, read_recipe

DECLARED = Declared(RULE, "base", "game", "v1")
GOOD = specialist("good")


def chosen(reason: str = "because") -> Chosen:
    return Chosen(read_recipe(recipe("good")), "fixed", reason)


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    whole = tmp_path / "played"
    make_loop(whole, recipe("bad", "good"), recipe("bad")).run()
    before = Ledger(whole).entries()
    copy = Ledger(tmp_path / "copy")
    for entry in before:
        copy.add(entry.round, entry.what)
    assert [entry.what for entry in copy.entries()] == [entry.what for entry in before]
    look = copy.find(1, Compared)
    assert look is not None
    assert len(look.pairs) == RULE.pairs
    assert all(type(seed) is int for seed, *_ in look.pairs)


def test_a_torn_last_line_never_happened(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.declare(DECLARED)
    ledger.add(1, chosen())
    whole = (tmp_path / LEDGER).read_bytes()
    for cut in (1, 20, len(whole.splitlines()[1])):
        (tmp_path / LEDGER).write_bytes(whole[:-cut])
        assert Ledger(tmp_path).find(1, Chosen) is None
        Ledger(tmp_path).add(1, chosen("asked again"))
        entries = Ledger(tmp_path).entries()
        assert [type(entry.what) for entry in entries] == [Declared, Chosen]
        assert Ledger(tmp_path).find(1, Chosen) == chosen("asked again")


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text('{"round": "one"}\n')
    with pytest.raises(StoreError, match="damaged"):
        Ledger(tmp_path).entries()


def test_a_loop_is_declared_once(tmp_path: Path) -> None:
    Ledger(tmp_path).declare(DECLARED)
    Ledger(tmp_path).declare(DECLARED)
    assert len(Ledger(tmp_path).entries()) == 1
    for field, value in (("base", "another"), ("world", "other"), ("scaffold", "v2")):
        other = msgspec.structs.replace(DECLARED, **{field: value})
        with pytest.raises(UsageError, match=f"declared {field} = .* and is continued with"):
            Ledger(tmp_path).declare(other)


def test_deciders_see_finished_rounds_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.declare(DECLARED)
    ledger.add(1, chosen())
    ledger.add(1, Picked(Selected(folder="f", turns=9, verdict="v"), 1))
    ledger.add(1, Trained(0, GOOD))
    assert ledger.trials() == []
    ledger.add(1, Closed(Verdict.ACCEPTED, "clear", GOOD, GOOD, 0.2))
    ledger.add(2, chosen())
    [trial] = ledger.trials()
    assert (trial.round, trial.turns, trial.closed.gain) == (1, 9, 0.2)


def test_the_champion_is_the_last_rounds_and_can_be_asked_for_an_earlier_one(
    tmp_path: Path,
) -> None:
    ledger, bad = Ledger(tmp_path), specialist("bad")
    assert ledger.champion() is None
    for number, closed in enumerate(
        (
            Closed(None, "nothing", None, None, None),
            Closed(Verdict.ACCEPTED, "clear", GOOD, GOOD, 0.2),
            Closed(Verdict.REJECTED, "not clear", bad, GOOD, -0.1),
        ),
        1,
    ):
        ledger.add(number, chosen())
        ledger.add(number, closed)
    assert ledger.champion() == GOOD
    assert [ledger.champion(before=number) for number in (1, 2, 3)] == [None, None, GOOD]


def test_a_loop_s_folder_can_be_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    made = specialist(str(before / "round-1" / "adapter"), "made")
    elsewhere = specialist("/opt/models/shipped", "shipped")
    ledger = Ledger(before)
    ledger.add(
        1,
        Picked(Selected(folder=str(before / "round-1" / "selection"), turns=3, verdict="three"), 1),
    )
    ledger.add(1, Trained(0, made))
    ledger.add(1, Closed(Verdict.ACCEPTED, "better", made, elsewhere, 0.3))
    before.rename(after)
    moved = Ledger(after)
    here = specialist(str(after / "round-1" / "adapter"), "made")
    assert moved.find(1, Picked) == Picked(
        Selected(folder=str(after / "round-1" / "selection"), turns=3, verdict="three"), 1
    )
    assert moved.find(1, Trained) == Trained(0, here)
    assert moved.find(1, Closed) == Closed(Verdict.ACCEPTED, "better", here, elsewhere, 0.3)
