"""Contents of files that were read, for as long as their status says that they are the same.

A session reads the same files step after step; opening one to look at its status is cheap, copying
100 kB and making it lower case is not.
"""

import os
import time
from typing import TypeAlias

Signature: TypeAlias = tuple[int, int, int, int]
"""Inode, size, times of content and inode: changes whenever the file does."""

_SETTLED_NS = 50_000_000
"""Age from which a change of the file is sure to change its times: the kernel's clock for them
ticks every few milliseconds."""

_KEPT_BYTES = 262_144
"""Of all files together: hundreds of sessions share a machine."""


def signature_of(status: os.stat_result) -> Signature:
    """What changes whenever the file does."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class ContentCache:
    """By file name."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Signature, bytes]] = {}
        self._bytes = 0

    def get(self, name: str, status: os.stat_result) -> bytes | None:
        """The content that `put` was given when the file had this status."""
        entry = self._kept.get(name)
        if entry is None:
            return None
        if entry[0] == signature_of(status):
            return entry[1]
        self._forget(name)
        return None

    def put(self, name: str, status: os.stat_result, data: bytes) -> None:
        """Keep `data`, read from a file that had this status before; one that is too large or was
        changed too recently is not kept."""
        self._forget(name)
        if len(data) > _KEPT_BYTES or len(data) != status.st_size:
            return
        if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < _SETTLED_NS:
            return
        while self._bytes + len(data) > _KEPT_BYTES:
            self._forget(next(iter(self._kept)))
        self._kept[name] = signature_of(status), data
        self._bytes += len(data)

    def _forget(self, name: str) -> None:
        entry = self._kept.pop(name, None)
        if entry is not None:
            self._bytes -= len(entry[1])
