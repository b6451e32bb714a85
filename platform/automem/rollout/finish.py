"""How an episode is finished: tables, memory, and last the done mark.

`episode.json` is the mark: written whole or not at all, and only by who holds the lease. Before it
the episode is resumable, after it nobody touches the episode again. Each step may be repeated by
a later attempt, so a death in between costs nothing but the time. A mark that cannot be read, or
without whole tables, counts for nothing: they are made again from the journal.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from automem.crash import crash_point
from automem.errors import StoreError
from automem.memory.sandbox import Sandbox
from automem.rollout.chain import iter_events, journal_epochs
from automem.rollout.durably import replace_file, sync
from automem.rollout.lease import Lease
from automem.trace.compact import EpisodeSummary, compact_episode
from automem.trace.tables import TABLES

DONE_FILE = "episode.json"
MEMORY_FOLDER = "memory"
_PARQUET = b"PAR1"
"""How a Parquet file ends."""


def read_done(directory: Path) -> EpisodeSummary | None:
    """The summary of a finished episode; None where it has no done mark."""
    try:
        return msgspec.json.decode((directory / DONE_FILE).read_bytes(), type=EpisodeSummary)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StoreError(f"{directory / DONE_FILE} is damaged: {error}; delete it") from error


def finished(directory: Path, tables_dir: Path) -> EpisodeSummary | None:
    """The summary of an episode that is finished and has its tables; None where it is to be played
    on, if only for what was lost of them. StoreError where the journal is gone as well."""
    try:
        done = read_done(directory)
        if done is None or all(_is_whole(tables_dir, table, directory.name) for table in TABLES):
            return done
        lost = "its tables are damaged or gone"
    except StoreError as error:
        lost = str(error)
    if not journal_epochs(directory):
        raise StoreError(
            f"{directory}: {lost}, and so is its journal: remove the folder to play it anew"
        )
    return None


def _is_whole(tables_dir: Path, table: str, episode: str) -> bool:
    """Whether a Parquet file has its end: it is written from the front."""
    try:
        with open(tables_dir / table / f"{episode}.parquet", "rb") as file:
            file.seek(-len(_PARQUET), os.SEEK_END)
            return file.read() == _PARQUET
    except OSError:
        return False


def memory_path(directory: Path, epoch: int) -> Path:
    """The memory folder of one attempt: a stale attempt writes into another one."""
    return directory / f"{MEMORY_FOLDER}-{epoch:04d}"


def drop_older_memories(directory: Path, epoch: int) -> None:
    """Remove the memory folders that dead attempts before `epoch` left."""
    for path in directory.glob(f"{MEMORY_FOLDER}-*"):
        if path.name < memory_path(directory, epoch).name:
            shutil.rmtree(path, ignore_errors=True)


def finish_episode(
    directory: Path,
    tables_dir: Path,
    lease: Lease,
    files: Mapping[str, str] | None,
    fsync: bool = False,
) -> EpisodeSummary:
    """Compact, keep the memory folder, set the done mark. `files`: what memory holds, where this
    attempt has no folder of it. `fsync`: what the mark stands for is on the disk before it."""
    lease.check()
    summary = compact_episode(iter_events(directory), tables_dir, directory.name)
    try:
        if fsync:
            for table in TABLES:
                sync(tables_dir / table / f"{directory.name}.parquet")
                sync(tables_dir / table)
        with lease.held():
            _keep_memory(directory, lease.epoch, files)
            crash_point("episode_json.before")
            data = msgspec.json.format(msgspec.json.encode(summary)) + b"\n"
            replace_file(directory / DONE_FILE, data, fsync)
            crash_point("episode_json.after")
    except OSError as error:
        raise StoreError(f"{directory}: the episode cannot be finished: {error}") from error
    drop_older_memories(directory, lease.epoch + 1)
    return summary


def _keep_memory(directory: Path, epoch: int, files: Mapping[str, str] | None) -> None:
    """This attempt's memory folder becomes the episode's."""
    final, own = directory / MEMORY_FOLDER, memory_path(directory, epoch)
    if files is not None and not final.exists():
        sandbox = Sandbox.open(own)
        try:
            sandbox.rebuild(dict(files))
        finally:
            sandbox.close()
    if own.exists() and not final.exists():
        os.rename(own, final)
