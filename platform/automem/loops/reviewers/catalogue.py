"""The catalogue of structural edits: what a program can propose without understanding the game.

Each kind looks at the scaffold and at the findings and offers edits, each with a promise: how much
of what goes wrong it is about, in [0, 1]. Promises are shares of the findings times a factor that
says how directly the edit meets them; they order proposals and claim nothing. None is fitted to one
game: which kinds help, do nothing or harm is for the gate to say, and differs between games.

Promise: an edit offered is one that can be made. Not covered: whether the revision it gives was
tried before, or breaks a constraint (`heuristic.py` asks).
"""

from automem.loops.reviewers.case import Case, Kind
from automem.loops.reviewers.edits import Edit
from automem.loops.reviewers.kinds_kept import (
    drop_repeated,
    drop_stale,
    keep_last,
    keyed,
    remove_unused,
)
from automem.loops.reviewers.kinds_routines import (
    cap_results,
    defer_commit,
    more_turns,
    narrow_ops,
    widen_ops,
)
from automem.loops.reviewers.kinds_shown import (
    add_goals,
    notice,
    notice_long,
    resize_window,
    show_all,
    show_in_log,
    show_last,
)

KINDS: tuple[Kind, ...] = (
    show_last,
    resize_window,
    show_all,
    show_in_log,
    keyed,
    drop_repeated,
    drop_stale,
    keep_last,
    remove_unused,
    add_goals,
    notice,
    notice_long,
    narrow_ops,
    widen_ops,
    more_turns,
    cap_results,
    defer_commit,
)
"""Every kind; more_turns offers `fewer_turns` as well."""


def offers(case: Case) -> list[Edit]:
    """Every edit that can be made, most promising first."""
    found = [edit for kind in KINDS for edit in kind(case)]
    return sorted(found, key=lambda edit: (-edit.promise, edit.label))
