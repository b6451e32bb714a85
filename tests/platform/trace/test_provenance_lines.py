"""A line keeps its writer through everything that leaves it as it was."""

from hypothesis import given
from hypothesis import strategies as st

from automem.memory.edits import edit_between
from automem.memory.ops import Edit
from automem.trace.provenance import Memory, Writer, split_lines


def written(*versions):
    """Memory after these contents of file `f`, the n-th written by step n; the last change."""
    memory, old, change = Memory(), None, None
    for step, new in enumerate(versions):
        edit = edit_between("f", old, new)
        if edit is not None:
            change = memory.apply(edit, Writer(step, 0, 0))
        old = new
    return memory, change


def writers(memory):
    return [memory.writer("f", n + 1).step for n in range(memory.line_count)]


def test_rewriting_a_file_claims_only_the_lines_that_differ():
    memory, change = written("a\nb\nc\nd\n", "A\nb\nc\nD\n")
    assert writers(memory) == [1, 0, 0, 1]
    assert [text for _, text in change.new] == ["A", "D"]
    assert [w.line for w in change.lost] == [0, 3]


def test_a_line_that_moved_keeps_its_writer():
    memory, change = written("a\nb\nc\n", "c\na\nx\nb\n")
    assert memory.lines("f") == ["c", "a", "x", "b"]
    assert writers(memory) == [0, 0, 1, 0]
    assert [text for _, text in change.new] == ["x"]


def test_of_two_equal_lines_each_keeps_one_writer():
    memory, _ = written("a\nb\n", "a\nb\na\n", "a\nz\na\n")
    assert writers(memory) == [0, 2, 1]


def test_an_upsert_in_the_middle_leaves_its_neighbours_to_their_writers():
    memory, change = written("05: K\n", "05: K\n07: Q\n", "05: K\n07: Q\n09: A\n",
                             "05: K\n07: J\n09: A\n")  # fmt: skip
    assert writers(memory) == [0, 3, 2]
    assert change.lost == (Writer(1, 0, 0),)


def test_pruning_takes_lines_from_the_top_and_no_writers_from_the_rest():
    memory, _ = written("a\n", "a\nb\n", "a\nb\nc\n")
    change = memory.apply(Edit("f", removed=2), Writer(9))
    assert writers(memory) == [1, 2]
    assert (change.lost, change.new) == ((Writer(0, 0, 0),), ())


def test_lines_of_one_operation_are_told_apart():
    memory, change = written("a\nb\nc\n")
    assert [memory.writer("f", n) for n in (1, 2, 3)] == [Writer(0, 0, 0, n) for n in range(3)]
    assert [w for w, _ in change.new] == [Writer(0, 0, 0, n) for n in range(3)]


@given(st.lists(st.text(alphabet="ab\n", max_size=12), min_size=1, max_size=6))
def test_every_line_has_one_writer_of_its_own_whatever_is_written(versions):
    memory, old = Memory(), None
    alive = {}
    for step, new in enumerate(versions):
        edit = edit_between("f", old, new)
        if edit is not None:
            change = memory.apply(edit, Writer(step, 0, 0))
            for writer in change.lost:
                del alive[writer]
            alive.update(dict(change.new))
        old = new
    lines = split_lines(old)
    assert sorted(alive.values()) == sorted(lines)
    owners = [memory.writer("f", n + 1) for n in range(len(lines))]
    assert len(set(owners)) == len(lines)
    assert [alive[owner] for owner in owners] == lines
