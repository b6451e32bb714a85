"""Edits: what is stored is small, and folding it gives the text back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automem.errors import StoreError
from automem.memory.edits import apply_edit, apply_edit_to_bytes, edit_at, edit_between
from automem.memory.ops import Edit

TEXT = st.text(alphabet=st.sampled_from("ab\n é🐉"), max_size=40)


@given(st.none() | TEXT, st.none() | TEXT)
def test_an_edit_between_two_texts_turns_one_into_the_other(
    old: str | None, new: str | None
) -> None:
    edit = edit_between("f", old, new)
    assert (apply_edit(old, edit) if edit else old) == new


@given(TEXT, TEXT)
def test_an_edit_applies_to_bytes_as_it_applies_to_text(old: str, new: str) -> None:
    edit = edit_between("f", old, new)
    if edit is not None:
        assert apply_edit_to_bytes(old.encode(), edit) == new.encode()


@given(TEXT, TEXT, TEXT)
def test_an_edit_at_a_place_changes_that_place_alone(before: str, old: str, new: str) -> None:
    edit = edit_at("f", len(before), old, new)
    assert apply_edit(before + old + "end", edit) == before + new + "end"


def test_an_edit_holds_only_what_changed() -> None:
    old = "".join(f"line {i}\n" for i in range(1000))
    edit = edit_between("f", old, old.replace("line 500\n", "line five hundred\n"))
    assert edit is not None
    assert (edit.removed, edit.inserted) == (3, "five hundred")


def test_nothing_changed_is_no_edit() -> None:
    assert edit_between("f", "a", "a") is None
    assert edit_between("f", None, None) is None


def test_an_empty_file_is_not_a_missing_one() -> None:
    edit = edit_between("f", None, "")
    assert edit == Edit("f", creates=True)
    assert apply_edit(None, edit) == ""


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        (None, Edit("f", inserted="x")),
        ("x", Edit("f", inserted="x", creates=True)),
        ("x", Edit("f", start=2)),
        ("x", Edit("f", removed=2)),
        ("x", Edit("f", start=-1, removed=1)),
        ("é", Edit("f", start=2)),
    ],
)
def test_an_edit_that_does_not_fit_is_a_corrupt_record(text: str | None, edit: Edit) -> None:
    with pytest.raises(StoreError):
        apply_edit(text, edit)
    with pytest.raises(StoreError):
        apply_edit_to_bytes(None if text is None else text.encode(), edit)


def test_deleting_what_is_gone_leaves_nothing() -> None:
    assert apply_edit(None, Edit("f", deletes=True)) is None
    assert apply_edit_to_bytes(b"x", Edit("f", deletes=True)) is None
