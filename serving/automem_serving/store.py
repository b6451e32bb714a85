"""Where served episodes are: a folder per tenant, laid out as a run, a folder per episode in it.

A tenant's folder can be read by everything that reads runs (`automem show`, `automem query`).
`served.json` in an episode's folder holds what its creation pinned; the folder appears whole, by
one rename. Promise: an episode is reached only by its own tenant's name, and only by an id of the
exact form that this module makes, so nothing that a caller writes becomes a path.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import StoreError
from automem.rollout import lease as leases
from automem.rollout.chain import journal_epochs
from automem.rollout.durably import replace_file, sync
from automem.rollout.finish import DONE_FILE
from automem.trace.events import EpisodeStarted
from automem_serving.exclusive import exclusive
from automem_serving.problems import ApiError, not_found

SPEC_FILE = "served.json"
ACT_LOCK = "act.lock"
_ID = re.compile(r"ep-[0-9a-f]{24}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class PinnedEpisode(msgspec.Struct, frozen=True):
    """`served.json`: what stays the same for an episode's life."""

    started: EpisodeStarted
    tenant: str
    scaffold: str
    scaffold_folder: str
    created: float
    body: str
    """Digest of the request that made it: the same idempotency key must come with the same."""


def is_tenant(name: str) -> bool:
    """Whether this may be the name of a tenant."""
    return _TENANT.fullmatch(name) is not None


def episode_id(tenant: str, key: str) -> str:
    """A new id; the same for the same idempotency key of the same tenant."""
    if not key:
        return f"ep-{secrets.token_hex(12)}"
    return "ep-" + hashlib.blake2b(f"{tenant}\0{key}".encode(), digest_size=12).hexdigest()


class EpisodeStore:
    """See the module's docstring."""

    def __init__(self, root: Path) -> None:
        self._root = root / "tenants"

    def directory(self, tenant: str, episode: str) -> Path:
        """An existing episode's folder; 404 where this tenant has none of that id."""
        if _ID.fullmatch(episode) is None:
            raise not_found("episode")
        directory = self._episodes(tenant) / episode
        if not (directory / SPEC_FILE).is_file():
            raise not_found("episode")
        return directory

    def read(self, directory: Path) -> PinnedEpisode:
        """What was pinned when it was made; 404 where it has been deleted meanwhile."""
        try:
            return msgspec.json.decode((directory / SPEC_FILE).read_bytes(), type=PinnedEpisode)
        except FileNotFoundError:
            raise not_found("episode") from None
        except msgspec.DecodeError as error:
            raise StoreError(f"{directory / SPEC_FILE} is damaged: {error}") from error

    async def create(
        self, pinned: PinnedEpisode, limit: int, takeover_s: float, fsync: bool
    ) -> tuple[Path, bool]:
        """Make its folder: (folder, whether it is new). 422 where the id exists with another
        request, 429 where the tenant has `limit` unfinished episodes. `takeover_s`: of the lock.
        `fsync`: what was pinned is on the disk when this returns, with every name on its path."""
        episodes = self._episodes(pinned.tenant)
        episodes.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = episodes / pinned.started.episode
        async with exclusive(episodes.parent / "create.lock", takeover_s):
            if directory.is_dir():
                return self._same(directory, pinned), False
            if len(self.open_ids(pinned.tenant)) >= limit:
                raise ApiError(
                    429,
                    "too_many_open_episodes",
                    f"{limit} episodes are open, as many as are allowed: finish or delete one",
                )
            making = Path(tempfile.mkdtemp(dir=episodes.parent, prefix=".making-"))
            replace_file(making / SPEC_FILE, msgspec.json.encode(pinned), fsync)
            os.rename(making, directory)
            if fsync:
                for folder in (episodes, *episodes.parents[:4]):  # up to what names `serving.dir`
                    sync(folder)
        return directory, True

    def ids(self, tenant: str) -> list[str]:
        """Every episode of a tenant."""
        try:
            names = os.listdir(self._episodes(tenant))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _ID.fullmatch(name))

    def open_ids(self, tenant: str) -> list[str]:
        """Those that have no done mark."""
        episodes = self._episodes(tenant)
        return [name for name in self.ids(tenant) if not (episodes / name / DONE_FILE).exists()]

    def tenant_folder(self, tenant: str) -> Path:
        """Everything of a tenant."""
        return self._episodes(tenant).parent

    def delete(self, directory: Path) -> None:
        """Remove an episode with everything that is known of it. Whoever still plays it loses its
        lease first."""
        leases.acquire(directory, max(journal_epochs(directory), default=0))
        gone = Path(tempfile.mkdtemp(dir=directory.parents[1], prefix=".deleted-"))
        os.rename(directory, gone / directory.name)
        shutil.rmtree(gone, ignore_errors=True)
        for table in (directory.parents[1] / "tables").glob(f"*/{directory.name}.parquet"):
            table.unlink(missing_ok=True)

    def _episodes(self, tenant: str) -> Path:
        if not is_tenant(tenant):
            raise not_found("tenant")
        return self._root / tenant / "episodes"

    def _same(self, directory: Path, pinned: PinnedEpisode) -> Path:
        if self.read(directory).body != pinned.body:
            raise ApiError(
                422,
                "idempotency_key_reused",
                "this Idempotency-Key made an episode from another request; use a new key",
            )
        return directory


def body_digest(body: msgspec.Struct | dict[str, object]) -> str:
    """What requests are compared by (32 hex digits)."""
    encoded = msgspec.json.encode(body, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def command_digest(command: dict[str, Any]) -> str:
    """What commands of the memory tool are compared by (32 hex digits); numbers of any size."""
    encoded = json.dumps(command, sort_keys=True).encode()
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
