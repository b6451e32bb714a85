"""A scaffold folder as texts by name: read with distrust, written whole, compared line by line.

Promise: `read_files` takes plain files with the names that a scaffold has, of bounded size, and
nothing else: a link, a pipe, another name or a second folder is a ScaffoldError, and nothing
outside the folder is ever opened. `write_files` leaves a whole folder or none.
"""

import difflib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from automem.agent.rendering import TEMPLATES
from automem.agent.scaffold import HOOKS, MAX_SOURCE_BYTES
from automem.agent.schema_file import MAX_BYTES
from automem.errors import ScaffoldError

SCHEMA = "scaffold.yaml"
NAMES = (SCHEMA, *(f"{name}.j2" for name in TEMPLATES), HOOKS)
"""What a scaffold folder may hold, in the order in which a person reads it."""


def read_files(folder: Path) -> dict[str, str]:
    """The folder's files by name. ScaffoldError where anything else than a scaffold is in it."""
    found = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        if name not in NAMES:
            raise ScaffoldError(f"{name!r} is no part of a scaffold; there are {', '.join(NAMES)}")
        found[name] = _read(folder / name)
    if SCHEMA not in found:
        raise ScaffoldError(f"there is no {SCHEMA}")
    return {name: found[name] for name in NAMES if name in found}


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ScaffoldError(f"{path.name} is not a plain file") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise ScaffoldError(f"{path.name} is not a plain file")
        most = MAX_BYTES if path.name == SCHEMA else MAX_SOURCE_BYTES
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ScaffoldError(f"{path.name} has more than {most} bytes; shorten it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ScaffoldError(f"{path.name} is not UTF-8 text") from error


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Make `folder` hold these files, all at once; one that is there already is left as it is."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, text in files.items():
            with (unfinished / name).open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster with the same content
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def files_digest(files: Mapping[str, str]) -> str:
    """Hash of the content (16 hex digits), also of what does not load as a scaffold."""
    parts = [f"{name}\0{len(text)}\0{text}" for name, text in sorted(files.items())]
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def diff_files(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """A unified diff, file by file; empty where nothing changed."""
    lines: list[str] = []
    for name in dict.fromkeys([*NAMES, *old, *new]):
        lines += difflib.unified_diff(
            old.get(name, "").splitlines(),
            new.get(name, "").splitlines(),
            f"a/{name}" if name in old else "/dev/null",
            f"b/{name}" if name in new else "/dev/null",
            lineterm="",
        )
    return "\n".join(lines)
