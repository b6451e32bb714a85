"""Contents of files that were read, for as long as their status says that they are the same.

A session reads the same files step after step; opening one to look at its status is cheap, copying
100 kB and making it lower case is not.
"""

import os
import time
from typing import NamedTuple, TypeAlias

Signature: TypeAlias = tuple[int, int, int, int]
"""Inode, size, times of content and inode: changes whenever the file does."""

_SETTLED_NS = 50_000_000
"""Age from which a change of the file is sure to change its times: the kernel's clock for them
ticks every few milliseconds."""

_KEPT_BYTES = 262_144
"""Of all files together: hundreds of sessions share a machine."""


class _Kept(NamedTuple):
    signature: Signature
    data: bytes
    is_settled: bool
    """Whether the file had been left alone for so long that another change will show."""


def signature_of(status: os.stat_result) -> Signature:
    """What changes whenever the file does."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class ContentCache:
    """By file name."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0

    def get(self, name: str, signature: Signature, may_be_unsettled: bool = False) -> bytes | None:
        """The content that `put` was given when the file had this signature.

        Content of a file that had just been changed counts only where `may_be_unsettled`: within
        one operation, whose neighbours nobody guards it against."""
        entry = self._kept.get(name)
        if entry is None:
            return None
        if entry.signature != signature:
            self.forget(name)
            return None
        return entry.data if entry.is_settled or may_be_unsettled else None

    def put(self, name: str, status: os.stat_result, data: bytes) -> None:
        """Keep `data`, read from a file that had this status before, unless it is too large."""
        self.forget(name)
        if len(data) > _KEPT_BYTES or len(data) != status.st_size:
            return
        while self._bytes + len(data) > _KEPT_BYTES:
            self.forget(next(iter(self._kept)))
        age = time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns)
        self._kept[name] = _Kept(signature_of(status), data, age >= _SETTLED_NS)
        self._bytes += len(data)

    def forget(self, name: str) -> None:
        """Give the memory back: the file was changed."""
        entry = self._kept.pop(name, None)
        if entry is not None:
            self._bytes -= len(entry.data)
