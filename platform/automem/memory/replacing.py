"""Putting a file's new content in place by one rename.

Content goes to a temporary file that is then exchanged with the old one, so whoever opens the name
finds the old text or the new, and a failed write (a full disk) leaves the old. Making and freeing a
large file is most of what that costs, so the last large one that was replaced is kept as a spare
and written over next time: four times as fast, and without the kernel's slow moments. A program
that opened the old file and reads it slower than two writes follow each other can see the spare
change beneath it; with `fsync` there is no spare.
"""

import itertools
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from automem.crash import crash_point
from automem.memory.beneath import exchange_names
from automem.memory.edits import Part

TEMPORARY = ".automem-tmp-"
"""How unfinished files begin: no memory file can have such a name."""

_SPARE_BYTES = 16_384
"""Size from which a replaced file is worth keeping."""

_FRESH_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPARE_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Replacer:
    """Writes files beneath one root folder; its methods raise OSError."""

    def __init__(self, fsync: bool) -> None:
        self._fsync = fsync
        self._serial = itertools.count()
        self._spare: str | None = None

    def replace(self, root: int, folder: int, file: str, parts: Sequence[Part]) -> int:
        """Make `parts` the content of `file` in `folder`, which is `root` or lies beneath it; its
        size in bytes."""
        size = sum(map(len, parts))
        is_large = size >= _SPARE_BYTES and not self._fsync
        temporary, descriptor = (self._take_spare(root) if is_large else None) or self._create(root)
        try:
            self._fill(descriptor, parts, size)
            crash_point("rename.before")
            self._put_in_place(root, temporary, folder, file, is_large)
            crash_point("rename.after")
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=root)
            self.drop_spare(root)  # the disk may be full
            raise
        return size

    def drop_spare(self, root: int) -> None:
        """Remove the spare, if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with suppress(OSError):
                os.unlink(spare, dir_fd=root)

    def _take_spare(self, root: int) -> tuple[str, int] | None:
        """Name and descriptor; None where there is none or something else has its name."""
        if self._spare is None:
            return None
        with suppress(OSError):
            descriptor = os.open(self._spare, _SPARE_FLAGS, dir_fd=root)
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                name, self._spare = self._spare, None
                return name, descriptor
            os.close(descriptor)
        self.drop_spare(root)
        return None

    def _create(self, root: int) -> tuple[str, int]:
        name = f"{TEMPORARY}{os.getpid()}-{next(self._serial)}"
        return name, os.open(name, _FRESH_FLAGS, 0o600, dir_fd=root)

    def _fill(self, descriptor: int, parts: Sequence[Part], size: int) -> None:
        """Write `parts` over whatever the file holds, and close it."""
        try:
            written = os.writev(descriptor, parts)
            if written < size:  # a full disk answers so, before it says why
                left = memoryview(b"".join(parts))[written:]
                while left:
                    left = left[os.write(descriptor, left) :]
            os.ftruncate(descriptor, size)
            if self._fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _put_in_place(
        self, root: int, temporary: str, folder: int, file: str, keeps_old: bool
    ) -> None:
        if self._fsync:
            os.rename(temporary, file, src_dir_fd=root, dst_dir_fd=folder)
            os.fsync(folder)
        elif not exchange_names(root, temporary, folder, file):
            os.rename(temporary, file, src_dir_fd=root, dst_dir_fd=folder)
        elif keeps_old and self._spare is None:
            self._spare = temporary
        else:
            os.unlink(temporary, dir_fd=root)
