"""How much a tenant keeps on disk, and the limit of it.

A tenant's folder is counted now and then, not at every request: `check` may be late by a few
seconds, so a tenant can go beyond its limit by what it writes in them. What was begun (a pending
act) and what ends an episode is never refused.
"""

import asyncio
import os
import time
from pathlib import Path

from automem_serving.problems import ApiError
from automem_serving.store import EpisodeStore

_LEAST_AGE_S = 2.0
_SHARE = 20.0
"""A count stands for so many times as long as it took: counting takes at most a twentieth."""


class StoredBytes:
    """See the module's docstring."""

    def __init__(self, store: EpisodeStore, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._counts: dict[str, tuple[int, float]] = {}
        """Tenant to (bytes, until when the count stands)."""

    async def check(self, tenant: str) -> None:
        """429 where the tenant keeps as much as it may."""
        stored, until = self._counts.get(tenant, (0, 0.0))
        if time.monotonic() >= until:
            began = time.monotonic()
            stored = await asyncio.to_thread(folder_bytes, self._store.tenant_folder(tenant))
            now = time.monotonic()
            self._counts[tenant] = (stored, now + max(_LEAST_AGE_S, _SHARE * (now - began)))
        if stored >= self._limit:
            raise ApiError(
                429,
                "storage_full",
                f"{stored} bytes are stored and {self._limit} are allowed: delete episodes",
            )

    def forget(self, tenant: str) -> None:
        """Count anew: something was deleted."""
        self._counts.pop(tenant, None)


def folder_bytes(folder: Path) -> int:
    """Bytes of every file beneath; what vanishes meanwhile does not count."""
    total = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # deleted, or not there yet
            continue
    return total
