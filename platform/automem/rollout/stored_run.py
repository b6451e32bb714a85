"""A run in object storage: what workers on other nodes, and a driver on another machine, start from
and leave behind. No file system is shared.

Under `storage.url` a run has a folder `runs/NAME-1a2b3c/`: `run.json`, the scaffold, journals in
segments, and for each finished episode its tables, memory and last its mark, `done/EPISODE.json`.
Adapters lie beside the runs by their content, `adapters/NAME-DIGEST/`.

Promise: what bears its mark is there whole, and fetching it gives the run's folder that a rollout
on one machine would have left, but for attempts whose segments were lost with their node (they are
not part of the trace). A run can be taken up by any machine that can read the store. Not covered:
two drivers on one run at the same time; their episodes exclude one another by claims, their totals
in `run.json` do not.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from automem.errors import StoreError, UsageError
from automem.rollout.finish import DONE_FILE, MEMORY_FOLDER
from automem.rollout.run_dir import RUN_FILE, SCAFFOLD_FOLDER, STORED_RUNS
from automem.rollout.segments import SegmentStore, restore
from automem.rollout.spec import RolloutSpec
from automem.storage.store import Store, local_copy
from automem.trace.compact import EpisodeSummary
from automem.trace.tables import TABLES
from automem.tracking.wandb_tracker import ID_FILE

ADAPTERS, JOBS = "adapters", "jobs"
JOB_VARIABLE = "AUTOMEM_JOB"
"""Environment variable with the submission's id, inside of a job that `automem submit` sent."""
STORAGE_VARIABLE = "AUTOMEM_STORAGE_URL"
"""Environment variable that `storage.url` takes its value from where it is not given."""
COLLECTORS = 8
"""Episodes that are fetched at the same time."""
WITH_A_RUN = ("config.yaml", "summary.json", "report.html", ID_FILE)
"""What a driver writes beside `run.json`, taken along where it is there. With its id, a run that
another machine goes on with stays one W&B run."""


class StoredRun:
    """One run's place in the store."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.store = Store(self.url)
        self.segments = SegmentStore(f"{self.url}/segments")
        base, found, _ = self.url.rpartition(f"/{STORED_RUNS}/")
        self._base = Store(base) if found else self.store

    # The run

    def put_run(self, run_dir: Path) -> None:
        """Store what a resume needs, and what a driver wrote beside it."""
        self.store.put_tree(run_dir / SCAFFOLD_FOLDER, SCAFFOLD_FOLDER)
        self.put_outcome(run_dir)
        if job := os.environ.get(JOB_VARIABLE):
            self._base.write(f"{JOBS}/{job}/{self.url.rpartition('/')[2]}", self.url.encode())

    def put_outcome(self, run_dir: Path) -> None:
        """Store the run's own files as they are now."""
        for name in (*WITH_A_RUN, RUN_FILE):
            if (run_dir / name).is_file():
                self.store.write(name, (run_dir / name).read_bytes())

    def get_run(self, run_dir: Path) -> None:
        """Make `run_dir` a folder that `resume_run` accepts. UsageError where no run is stored."""
        data = self.store.read(RUN_FILE)
        if data is None:
            raise UsageError(f"{self.url} holds no run: it has no {RUN_FILE}")
        run_dir.mkdir(parents=True, exist_ok=True)
        self.store.get_tree(SCAFFOLD_FOLDER, run_dir / SCAFFOLD_FOLDER)
        for name in WITH_A_RUN:
            if (beside := self.store.read(name)) is not None:
                (run_dir / name).write_bytes(beside)
        (run_dir / RUN_FILE).write_bytes(data)

    # Episodes

    def finished(self) -> set[str]:
        """Ids of the episodes that bear their mark."""
        return {name.removesuffix(".json") for name in self.store.names("done")}

    def done(self, episode: str) -> EpisodeSummary | None:
        """A finished episode's summary; None where it bears no mark."""
        data = self.store.read(f"done/{episode}.json")
        try:
            return None if data is None else msgspec.json.decode(data, type=EpisodeSummary)
        except msgspec.DecodeError as error:
            raise StoreError(f"{self.url}/done/{episode}.json is damaged: {error}") from error

    def put_episode(self, run_dir: Path, episode: str) -> None:
        """Store a finished episode, its mark last; again is the same."""
        directory = run_dir / "episodes" / episode
        self.store.put_tree(directory / MEMORY_FOLDER, f"memory/{episode}")
        for table in TABLES:
            name = f"tables/{table}/{episode}.parquet"
            self.store.write(name, (run_dir / name).read_bytes())
        self.store.write(f"done/{episode}.json", (directory / DONE_FILE).read_bytes())

    def get_episode(self, run_dir: Path, episode: str) -> None:
        """The episode's folder and tables as a rollout on this machine would have left them."""
        directory = run_dir / "episodes" / episode
        if (directory / DONE_FILE).exists():
            return
        mark = self.store.read(f"done/{episode}.json")
        if mark is None:
            raise StoreError(f"{self.url}: {episode} bears no mark, so it is not finished")
        self.get_journal(run_dir, episode)
        (directory / MEMORY_FOLDER).mkdir(parents=True, exist_ok=True)
        self.store.get_tree(f"memory/{episode}", directory / MEMORY_FOLDER)
        for table in TABLES:
            name = f"tables/{table}/{episode}.parquet"
            data = self.store.read(name)
            if data is None:
                raise StoreError(f"{self.url}/{name} is missing, though the episode is finished")
            _write(run_dir / name, data)
        _write(directory / DONE_FILE, mark)

    def get_journal(self, run_dir: Path, episode: str) -> None:
        """What is stored of an episode's journal, finished or not."""
        restore(self.segments, run_dir / "episodes" / episode)

    # What travels to other nodes

    def travelling(self, spec: RolloutSpec) -> RolloutSpec:
        """The same rollout with adapters by URL, stored where they are not yet: what engines on
        other nodes can load."""
        known = self._known_adapters()
        engines = {}
        for name, part in spec.engines.items():
            adapters = {
                key: self._keep_adapter(key, path, known) for key, path in part.adapters.items()
            }
            engines[name] = msgspec.structs.replace(part, adapters=adapters)
        if any(part.adapters for part in engines.values()):
            self.store.write("adapters.json", msgspec.json.encode(known))
        return msgspec.structs.replace(spec, engines=engines)

    def _known_adapters(self) -> dict[str, str]:
        data = self.store.read("adapters.json")
        return {} if data is None else msgspec.json.decode(data, type=dict[str, str])

    def _keep_adapter(self, name: str, path: str, known: dict[str, str]) -> str:
        if "://" in path:
            return path
        folder = Path(path)
        if not folder.is_dir():
            if name in known:
                return known[name]
            raise UsageError(f"adapter {name!r}: there is no folder {path}")
        place = f"{ADAPTERS}/{name}-{_digest(folder)}"
        if self._base.read(f"{place}/.whole") is None:
            self._base.put_tree(folder, place)
            self._base.write(f"{place}/.whole", b"")
        known[name] = f"{self._base.url}/{place}"
        return known[name]


class Collector:
    """Brings finished episodes to the driver's machine while others are played."""

    def __init__(self, stored: StoredRun, run_dir: Path) -> None:
        self._stored = stored
        self._run_dir = run_dir
        self._pool = ThreadPoolExecutor(COLLECTORS, thread_name_prefix="collector")
        self._fetched: dict[str, Future[None]] = {}

    def fetch(self, episode: str) -> None:
        """Begin to; returns at once."""
        if episode not in self._fetched:
            work = self._pool.submit(self._stored.get_episode, self._run_dir, episode)
            self._fetched[episode] = work

    def finish(self, unfinished: Iterable[str]) -> None:
        """Wait for what is under way, and bring the journals of what is not finished; StoreError
        where something did not come: it is stored, a resume brings it."""
        for episode in unfinished:
            self._fetched[episode] = self._pool.submit(
                self._stored.get_journal, self._run_dir, episode
            )
        self._pool.shutdown(wait=True)
        for work in self._fetched.values():
            work.result()


def runs_below(url: str) -> list[str]:
    """URLs of the runs that are stored under a `storage.url`."""
    store = Store(url)
    return [f"{store.url}/{STORED_RUNS}/{name}" for name in store.names(STORED_RUNS)]


def runs_of_job(url: str, job: str) -> list[str]:
    """URLs of the runs that a submitted job has stored."""
    store = Store(url)
    found = (store.read(f"{JOBS}/{job}/{name}") for name in store.names(f"{JOBS}/{job}"))
    return [data.decode() for data in found if data]


def fetch(url: str, run_dir: Path, episodes: Iterable[str] | None = None) -> list[str]:
    """A stored run's folder on this machine, finished episodes whole and the others' journals;
    the ids of the finished ones. What is here already is not fetched again."""
    stored = StoredRun(url)
    stored.get_run(run_dir)
    finished = sorted(stored.finished() if episodes is None else episodes)
    collector = Collector(stored, run_dir)
    for episode in finished:
        collector.fetch(episode)
    begun = set(stored.store.names("segments")) if episodes is None else set()
    collector.finish(begun - set(finished))
    return finished


def scaffold_of(url: str) -> Path:
    """A local copy of the run's scaffold."""
    return local_copy(f"{url.rstrip('/')}/{SCAFFOLD_FOLDER}")


def _digest(folder: Path) -> str:
    found = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode() + b"\0")
            found.update(path.read_bytes())
    return found.hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
