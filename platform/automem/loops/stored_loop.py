"""A loop's folder in object storage, so that any machine can go on with it: ledger, seeds,
selections, datasets, checkpoints, adapters, tables. Its rollouts are stored by themselves
(`rollout.stored_run`); of them the loop keeps what names them.

Under `storage.url`, `loops/NAME/` has `manifest.json` (path to digest) and `objects/DIGEST`.
Promise: the manifest is written last, so what it names is a state that the folder was in, with the
ledger read first and so never ahead of what it speaks of; an entry of the ledger is stored before
anything is made of it (`keep` is called by `Ledger.add`). A machine that is lost costs what came
after: games go on from their segments, a training from the last checkpoint stored. Not covered: two
machines on one loop at the same time; the one that notices refuses (`check`), a ledger is never
merged. Files are read whole: this is made for adapters, not for models of many gigabytes.
"""

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from automem.errors import StoreError, UsageError
from automem.loops.ledger import LEDGER
from automem.rollout.run_dir import LOCK_FILE, RUN_FILE
from automem.rollout.stored_run import JOB_VARIABLE, JOBS, fetch
from automem.storage.store import Store

LOOPS = "loops"
MANIFEST = "manifest.json"
OWNER = "stored.json"
"""In the loop's folder: whose manifest it is."""
EVERY_S = 30.0
"""How often what changes between two entries of the ledger is stored: checkpoints."""
_OF_ROLLOUTS = frozenset({"episodes", "tables"})
"""What is stored with a run itself."""
_OF_THIS_MACHINE = frozenset({"ray", ".draft", LOCK_FILE, OWNER})


class Manifest(msgspec.Struct, frozen=True):
    """What a loop's folder held."""

    owner: str
    """Changes hands with the folder: made once, at the loop's beginning."""
    files: dict[str, str]
    """Path to digest."""
    is_done: bool = False
    """The command that kept it ended well; else it may be gone on with."""
    written: float = 0.0
    """Unix time."""


class StoredLoop:
    """One loop's place in the store; see the module's docstring. Threads may share it."""

    def __init__(self, url: str, folder: Path, last: str) -> None:
        """`url`: `storage.url`; the loop is named as its folder is. `last`: path of the file that
        others must not be ahead of: the book of seeds."""
        self.url = f"{url.rstrip('/')}/{LOOPS}/{folder.name}"
        self._store = Store(self.url)
        self._jobs = Store(url)
        self._folder = folder
        self._last = last
        self._one_at_a_time = threading.Lock()
        self._known: dict[str, tuple[int, int, str]] = {}
        """Path to time, size and digest, of what is in the store."""
        self._stored: dict[str, str] = {}
        self._is_done = False

    def begin(self) -> bool:
        """Take up the loop: fetch it where this machine does not have it, else see that it is
        ours. True where it was fetched. UsageError where another loop has the name."""
        if job := os.environ.get(JOB_VARIABLE):
            self._jobs.write(f"{JOBS}/{job}/{LOOPS}-{self._folder.name}", self.url.encode())
        manifest = _manifest(self._store)
        if not (self._folder / OWNER).exists():
            is_new = not any(self._folder.rglob(LEDGER))
            if manifest is not None and is_new:
                self._fetch(manifest)
                return True
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / OWNER).write_text(uuid.uuid4().hex)
        if manifest is not None:
            self._check(manifest)
            self._stored = dict(manifest.files)
            if manifest.is_done:  # from now on it is being gone on with
                self._write(Manifest(manifest.owner, manifest.files, written=time.time()))
        return False

    def keep(self, is_done: bool = False) -> None:
        """Store what has changed; StoreError where the store stays away (nothing is lost here)."""
        with self._one_at_a_time:
            files = {path: self._put(path) for path in self._paths()}
            files = {path: digest for path, digest in files.items() if digest}
            if (files, is_done) == (self._stored, self._is_done):
                return
            owner = (self._folder / OWNER).read_text()
            manifest = _manifest(self._store)
            if manifest is not None:
                self._check(manifest)
            self._write(Manifest(owner, files, is_done, time.time()))
            gone = set(self._stored.values()) - set(files.values())
            self._stored, self._is_done = files, is_done
            for digest in gone:
                self._store.remove(f"objects/{digest}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep every `EVERY_S` while the block lasts, and once more when it ends."""
        is_over = threading.Event()

        def follow() -> None:
            while not is_over.wait(EVERY_S):
                with suppress(StoreError, UsageError):  # the ledger's next entry tells, if it lasts
                    self.keep()

        thread = threading.Thread(target=follow, name="stored-loop", daemon=True)
        thread.start()
        try:
            yield
        except (Exception, KeyboardInterrupt):
            with suppress(StoreError, UsageError):  # what ended the block is what counts
                self.keep()
            raise
        finally:
            is_over.set()
            thread.join()
        self.keep(is_done=True)  # the last word: the thread would take it back

    # Up

    def _paths(self) -> list[str]:
        """Ledgers first, so that they are not ahead of what they speak of; the seeds last."""
        found = []
        for place, folders, names in os.walk(self._folder):
            skipped = _OF_THIS_MACHINE | (_OF_ROLLOUTS if RUN_FILE in names else set())
            folders[:] = [
                name for name in folders if name not in skipped and not name.startswith(".writing")
            ]
            found += [
                os.path.relpath(os.path.join(place, name), self._folder)
                for name in names
                if name not in skipped and not name.endswith(".tmp")
            ]
        return sorted(found, key=lambda path: (self._rank(path), path))

    def _rank(self, path: str) -> int:
        return 0 if os.path.basename(path) == LEDGER else 2 if path == self._last else 1

    def _put(self, path: str) -> str:
        """The digest of a file that is stored by then; empty where it went meanwhile."""
        try:
            state = os.stat(self._folder / path)
            known = self._known.get(path)
            if known is not None and known[:2] == (state.st_mtime_ns, state.st_size):
                return known[2]
            data = (self._folder / path).read_bytes()
        except FileNotFoundError:
            return ""
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if digest not in self._stored.values():
            self._store.write(f"objects/{digest}", data)
        self._known[path] = (state.st_mtime_ns, state.st_size, digest)
        return digest

    # Down

    def _check(self, manifest: Manifest) -> None:
        owner = (self._folder / OWNER).read_text()
        if manifest.owner != owner:
            raise UsageError(
                f"{self.url} is another loop's, or another machine goes on with this one: choose "
                "another run.dir (its name is the loop's name in the store)"
            )

    def _fetch(self, manifest: Manifest) -> None:
        """The folder as the manifest has it, under a new owner: the machine before is shut out."""
        _write_files(self._store, manifest, self._folder)
        # Selection reads the collected episodes; whatever else comes when it is played on.
        _fetch_rollouts(self._folder, "collect/**/")
        owner = uuid.uuid4().hex
        (self._folder / OWNER).write_text(owner)
        self._write(Manifest(owner, manifest.files, written=time.time()))
        self._stored = dict(manifest.files)

    def _write(self, manifest: Manifest) -> None:
        self._store.write(MANIFEST, msgspec.json.encode(manifest))


def loops_below(url: str) -> list[tuple[Store, Manifest]]:
    """The loops under a `storage.url`."""
    store = Store(url).below(LOOPS)
    found = ((store.below(name), _manifest(store.below(name))) for name in store.names())
    return [(loop, manifest) for loop, manifest in found if manifest is not None]


def rollouts_of(loop: Store, manifest: Manifest) -> set[str]:
    """URLs of the stored runs that a loop's folder names."""
    names = {d for path, d in manifest.files.items() if os.path.basename(path) == RUN_FILE}
    runs = (loop.read(f"objects/{name}") for name in names)
    return {msgspec.json.decode(run)["spec"].get("storage_url", "") for run in runs if run}


def is_loop(url: str) -> bool:
    """Whether this is the place of a loop, and not of a run."""
    return url.rstrip("/").split("/")[-2:-1] == [LOOPS]


def fetch_loop(url: str, folder: Path) -> int:
    """A copy of a stored loop to look at, all its episodes with it; how many rollouts. UsageError
    where nothing is stored. The loop stays with the machine that has it."""
    store = Store(url)
    manifest = _manifest(store)
    if manifest is None:
        raise UsageError(f"{url} holds no loop: it has no {MANIFEST}")
    _write_files(store, manifest, folder)
    return _fetch_rollouts(folder, "**/")


def _manifest(store: Store) -> Manifest | None:
    data = store.read(MANIFEST)
    try:
        return None if data is None else msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise StoreError(f"{store.url}/{MANIFEST} is damaged: {error}") from error


def _write_files(store: Store, manifest: Manifest, folder: Path) -> None:
    for path, digest in manifest.files.items():
        data = store.read(f"objects/{digest}")
        if data is None:
            raise StoreError(f"{store.url}/objects/{digest} ({path}) is missing")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _fetch_rollouts(folder: Path, where: str) -> int:
    """The episodes of the rollouts that lie where the pattern says."""
    found = sorted(folder.rglob(f"{where}{RUN_FILE}"))
    for run_file in found:
        if url := msgspec.json.decode(run_file.read_bytes())["spec"].get("storage_url"):
            fetch(url, run_file.parent)
    return len(found)
