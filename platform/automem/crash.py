"""Named places where a process can be told to die: how the kill tests reach every seam.

`AUTOMEM_CRASH="journal.after:3"` ends this process by SIGKILL at its third passage of that point,
as a power switch would: no handler, no buffer flush, no `finally`. With `;once=FILE` only the first
process that manages to create FILE dies, so a restarted one lives. Unset, a passage costs one test
of a module variable. Points: `journal.before journal.after rename.before rename.after
compaction.before compaction.after episode_json.before episode_json.after`, and `event.<kind>` after
an event of that kind was written. Not covered: the death of a machine (see `fsync`, segments).
"""

import os
import signal
from dataclasses import dataclass


@dataclass(slots=True)
class _Trigger:
    point: str
    passages_left: int
    once: str


def _trigger_from(text: str) -> _Trigger | None:
    """Parse `name:nth` or `name:nth;once=FILE`; ValueError says what was expected."""
    if not text:
        return None
    where, _, option = text.partition(";")
    point, _, nth = where.rpartition(":")
    key, _, once = option.partition("=")
    if not point or not nth.isdigit() or (option and key != "once"):
        raise ValueError(f"AUTOMEM_CRASH must be name:nth or name:nth;once=FILE, got {text!r}")
    return _Trigger(point, max(1, int(nth)), once)


_trigger = _trigger_from(os.environ.get("AUTOMEM_CRASH", ""))


def is_armed() -> bool:
    """Whether any crash point can fire; for callers that would have to compute a name."""
    return _trigger is not None


def crash_point(name: str) -> None:
    """Die here if the environment says so."""
    if _trigger is not None and _trigger.point == name:
        _pass(_trigger)


def _pass(trigger: _Trigger) -> None:
    trigger.passages_left -= 1
    if trigger.passages_left == 0 and _is_first(trigger.once):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first(once: str) -> bool:
    """Whether no process died at this trigger yet; creates the file that says so."""
    if not once:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
