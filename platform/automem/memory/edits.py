"""Edits: one file's change, small enough to be stored for every operation.

Pure functions over text; nothing here knows a disk. Folding `apply_edit` over a journal gives the
memory folder back, so an edit that does not fit its text is a corrupt record: StoreError.
"""

from typing import TypeAlias

from automem.errors import StoreError
from automem.memory.ops import Edit

Part: TypeAlias = bytes | memoryview


def apply_edit(text: str | None, edit: Edit) -> str | None:
    """The file's text after `edit`; None stands for "no such file", before and after.

    Deleting what is not there leaves nothing there. Everything else that does not fit raises
    StoreError."""
    if edit.deletes:
        return None
    if edit.creates:
        if text is not None:
            raise StoreError(f"edit of {edit.file!r} creates a file that exists already")
        text = ""
    if text is None:
        raise StoreError(f"edit of {edit.file!r} changes a file that does not exist")
    _check_range(edit, len(text))
    return text[: edit.start] + edit.inserted + text[edit.start + edit.removed :]


def _check_range(edit: Edit, length: int) -> None:
    end = edit.start + edit.removed
    if edit.start < 0 or edit.removed < 0 or end > length:
        raise StoreError(
            f"edit of {edit.file!r} covers characters {edit.start} to {end}, the text has {length}"
        )


def apply_edit_to_bytes(data: bytes | None, edit: Edit) -> bytes | None:
    """`apply_edit` on UTF-8, without encoding what the edit leaves alone."""
    parts = edited_parts(data, edit)
    return None if parts is None else b"".join(parts)


def edited_parts(data: bytes | None, edit: Edit) -> tuple[Part, ...] | None:
    """The file's UTF-8 after `edit`, in parts that are not put together: a large file is written
    from where it lies. None and errors as `apply_edit`."""
    if data is None or edit.creates or edit.deletes:
        text = apply_edit(None if data is None else data.decode(), edit)
        return None if text is None else (text.encode(),)
    if data.isascii():
        start_byte, end_byte = edit.start, edit.start + edit.removed
        _check_range(edit, len(data))
    else:
        start_byte, end_byte = _byte_range(data, edit)
    view = memoryview(data)
    return view[:start_byte], edit.inserted.encode(), view[end_byte:]


def _byte_range(data: bytes, edit: Edit) -> tuple[int, int]:
    text, end = data.decode(), edit.start + edit.removed
    _check_range(edit, len(text))
    if edit.start + end > len(text):  # the part behind the change is the shorter one
        end_byte = len(data) - len(text[end:].encode())
        return end_byte - len(text[edit.start : end].encode()), end_byte
    start_byte = len(text[: edit.start].encode())
    return start_byte, start_byte + len(text[edit.start : end].encode())


def edit_between(file: str, old: str | None, new: str | None) -> Edit | None:
    """The edit that turns `old` into `new`, without their common beginning and end; None where
    nothing changes."""
    if old == new:
        return None
    if new is None:
        return Edit(file, deletes=True)
    if old is None:
        return Edit(file, inserted=new, creates=True)
    return edit_at(file, 0, old, new)


def edit_at(file: str, start: int, old: str, new: str) -> Edit:
    """The edit that turns `old`, which stands at `start` of the file, into `new`."""
    prefix = _common_prefix(old, new)
    old, new = old[prefix:], new[prefix:]
    suffix = _common_suffix(old, new)
    return Edit(
        file,
        start=start + prefix,
        removed=len(old) - suffix,
        inserted=new[: len(new) - suffix],
    )


def _common_prefix(one: str, other: str) -> int:
    """Length of the common beginning, by bisection: slices are compared at memory speed."""
    low, high = 0, min(len(one), len(other))
    if one.startswith(other) or other.startswith(one):  # nothing is copied to find this out
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low
