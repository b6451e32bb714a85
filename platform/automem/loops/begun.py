"""An experiment is gone on with under the settings that it was begun with, or not at all.

Promise: what is there is never reported under settings that it was not made with. Whoever keeps
results that a killed experiment goes on from says what decides them, by name, before the first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.rollout.durably import replace_file

BEGUN = "begun.json"


def check_begun(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep what decides an experiment's results in its folder; of one that has begun, UsageError
    names what differs."""
    now = msgspec.json.decode(msgspec.json.encode(settings))
    path = folder / BEGUN
    if not path.exists():
        replace_file(path, msgspec.json.format(msgspec.json.encode(now)) + b"\n", fsync=False)
        return
    check_same(folder, flat(msgspec.json.decode(path.read_bytes())), flat(now))


def check_same(folder: Path, before: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """UsageError names what differs between the settings, by dotted name, that an experiment was
    begun with and those that it is to go on with."""
    names = sorted(name for name in {*before, *changed} if before.get(name) != changed.get(name))
    if names:
        shown = ", ".join(
            f"{name}: {before.get(name, 'nothing')} then, {changed.get(name, 'nothing')} now"
            for name in names[:3]
        )
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UsageError(
            f"{folder} was begun with other settings ({shown}{more}): go on with those, or choose "
            "another run.dir"
        )


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names of the leaves; a list is one, and so is a mapping without keys."""
    if not isinstance(tree, dict) or (prefix and not tree):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
