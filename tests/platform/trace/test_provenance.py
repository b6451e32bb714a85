from hypothesis import given
from hypothesis import strategies as st

from automem.memory.edits import edit_between
from automem.memory.ops import Edit
from automem.trace.provenance import Memory, Writer, split_lines

contents = st.text(alphabet="ab\n é", max_size=24)


@given(st.lists(contents, min_size=1, max_size=8))
def test_folding_edits_gives_files_lines_and_bytes_exactly(versions):
    memory, old = Memory(), None
    for step, new in enumerate(versions):
        edit = edit_between("f", old, new)
        if edit is None:
            continue
        memory.apply(edit, Writer(step))
        old = new
        assert memory.files == {"f": new}
        lines = split_lines(new)
        assert [memory.line("f", n + 1) for n in range(len(lines))] == lines
        assert memory.line_count == len(lines)
        assert memory.byte_count == len(new.encode())
        assert all(memory.writer("f", n + 1) for n in range(len(lines)))


@given(contents, contents, st.data())
def test_any_edit_folds_wherever_it_cuts(old, inserted, data):
    start = data.draw(st.integers(0, len(old)))
    removed = data.draw(st.integers(0, len(old) - start))
    memory = Memory()
    memory.apply(Edit("f", inserted=old, creates=True), Writer(0))
    memory.apply(Edit("f", start=start, removed=removed, inserted=inserted), Writer(1))
    lines = split_lines(memory.files["f"])
    assert [memory.line("f", n + 1) for n in range(memory.line_count)] == lines
    assert memory.byte_count == len(memory.files["f"].encode())


def test_a_line_that_an_edit_repeats_keeps_its_writer():
    memory = Memory()
    memory.apply(Edit("f", inserted="05 K\n07 Q\n", creates=True), Writer(1))
    change = memory.apply(edit_between("f", "05 K\n07 Q\n", "05 K\n09 A\n07 Q\n"), Writer(2))
    assert change.written == ("09 A",)
    assert [memory.writer("f", n).step for n in (1, 2, 3)] == [1, 2, 1]


def test_changing_part_of_a_line_makes_the_editor_its_writer():
    memory = Memory()
    memory.apply(Edit("f", inserted="05: K\n07: Q\n", creates=True), Writer(1))
    change = memory.apply(Edit("f", start=4, removed=1, inserted="A"), Writer(4))
    assert (change.removed, change.written) == (("05: K",), ("05: A",))
    assert [memory.writer("f", n).step for n in (1, 2)] == [4, 1]


def test_a_deleted_file_leaves_nothing_behind():
    memory = Memory()
    memory.apply(Edit("f", inserted="a\nb\n", creates=True), Writer(0))
    change = memory.apply(Edit("f", deletes=True), Writer(1))
    assert change.removed == ("a", "b")
    assert (memory.files, memory.line_count, memory.byte_count) == ({}, 0, 0)
    assert memory.writer("f", 1) is None


def test_lines_that_already_stood_in_the_file_are_counted_as_repeated():
    memory = Memory()
    memory.apply(Edit("f", inserted="a\nb\n", creates=True), Writer(0))
    change = memory.apply(Edit("f", start=4, inserted="a\nc\n\n"), Writer(1))
    assert change.written == ("a", "c", "")
    assert change.repeated == 1
