"""Forgetting: a fact is taken out of everything below a folder, and what stays is named.

Promise: the new content of every file is staged first; then one file, `.forget/plan.json`, decides:
before it nothing has changed, after it the same command completes the work, whatever died. Doing it
again finds nothing. A run that is being played is refused. Journals keep their chain and get
redaction records (`automem.rollout.redactions`); `forgotten.jsonl` says what was done, without the
fact. Not covered: weights (named, with the retraining), stores and links (`audit.elsewhere` names
what they hold), backups, other folders, old blocks of the disk, and the world itself, which shows
the same again for the same seed.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from automem.audit.files import NAMES_STAY, Context, kind_of, masked, occurrences
from automem.audit.journals import JournalRedactor
from automem.audit.needle import Needle
from automem.audit.weights import HELD, Tainted, tainted, unfinished
from automem.crash import crash_point
from automem.errors import StoreError, UsageError
from automem.rollout import lease as leases
from automem.rollout.chain import JOURNAL_FOLDER, is_valid, journal_epochs
from automem.rollout.finish import DONE_FILE
from automem.rollout.recovery import recover
from automem.rollout.redactions import PLAN, REDACTIONS, append_to, check, digest
from automem.rollout.run_dir import LOCK_FILE, RUN_FILE, SCAFFOLD_FOLDER, locked, read_run

LOG = "forgotten.jsonl"
ACT_LOCK = "act.lock"
"""Held by the server while it answers an act of an episode."""
_OURS = {LOG, REDACTIONS, LOCK_FILE, ACT_LOCK, leases.LOCK_FILE}
_DATASET = {"card.json", "conversations.parquet"}


class Find(msgspec.Struct, frozen=True):
    """A place where the fact was."""

    path: str
    """Relative to the folder."""
    kind: str
    occurrences: int
    """Records of a journal and archives count once; in text and cells of tables, how often."""
    old: str = ""
    """Digest of the file before, 32 hex digits."""


class Forgotten(msgspec.Struct, frozen=True):
    """One line of `forgotten.jsonl`, and what the command prints."""

    id: str
    time: float
    finds: list[Find]
    tainted: list[Tainted]
    """What cannot be undone here."""
    left: list[str]
    """Places that could not be reached, in words."""

    def without(self, needle: Needle) -> "Forgotten":
        """As it is written down: names of files may hold the fact, too."""
        mask, renewed = needle.mask, msgspec.structs.replace
        return renewed(
            self,
            finds=[renewed(each, path=mask(each.path)) for each in self.finds],
            tainted=[
                renewed(
                    each,
                    name=mask(each.name),
                    path=mask(each.path),
                    because=mask(each.because),
                )
                for each in self.tainted
            ],
            left=[mask(place) for place in self.left],
        )


class DatasetChange(NamedTuple):
    """A training dataset without the conversations that hold the fact."""

    old: str
    """Digest of the dataset as it was."""
    dropped: int
    files: dict[str, bytes]
    """New content by name; empty where no conversation is left: the dataset goes."""


class Datasets(Protocol):
    """Who knows the learners' datasets; plugged in by `_target_`."""

    def without(self, folder: Path, holds: Callable[[str], bool]) -> DatasetChange | None:
        """The dataset in `folder` without the conversations that `holds`; None where none does."""
        ...


@dataclass(slots=True)
class Plan:
    """What is to be done; nothing has been written."""

    id: str
    time: float
    context: Context
    finds: list[Find] = field(default_factory=list)
    writes: dict[Path, bytes] = field(default_factory=dict)
    removes: list[Path] = field(default_factory=list)
    episodes: list[Path] = field(default_factory=list)
    """Episodes whose journal changes."""
    datasets: list[str] = field(default_factory=list)
    """Digests of datasets that held the fact."""
    tainted: list[Tainted] = field(default_factory=list)
    """Weights that saw it: trained now, or found by an earlier forgetting and still there."""
    sources: set[str] = field(default_factory=set)
    """Digests of those datasets, an earlier forgetting's too, and of those weights."""
    left: list[str] = field(default_factory=list)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own every run and every served episode below the folder; UsageError where one is in use."""
    with ExitStack() as stack:
        if not (folder / LOCK_FILE).exists():  # it may be a folder of plain files: none is added
            stack.callback((folder / LOCK_FILE).unlink, missing_ok=True)
        marks = (path.parent for name in (LOCK_FILE, RUN_FILE) for path in folder.rglob(name))
        for place in sorted({folder, *marks}):
            stack.enter_context(locked(place, is_forgetting=True))
        for path in sorted(folder.rglob(ACT_LOCK)):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{path.parent} is being acted in by a server: stop it, then forget"
                ) from None
        yield


def look(folder: Path, needle: Needle, datasets: Datasets) -> Plan:
    """Find every place, and stage in memory what becomes of it. UsageError where an unfinished
    episode could not be resumed afterwards; StoreError where a file cannot be read."""
    plan = Plan(uuid.uuid4().hex[:12], round(time.time(), 3), Context(needle))
    for directory in _episodes(folder):
        _look_at_journal(directory, folder, plan)
    handled = _look_at_datasets(folder, plan, datasets)
    held = {*plan.datasets, *_held_before(folder)}
    plan.tainted = tainted(folder, held)
    plan.sources = held | {each.weights for each in plan.tainted if each.weights}
    goes = unfinished(folder, plan.sources)
    for path in _files(folder):
        if path in handled or path.parent.name == JOURNAL_FOLDER:
            continue
        if not any(path.is_relative_to(place) for place in goes):
            _look_at_file(path, folder, plan)
    plan.removes += goes
    _look_at_logs(folder, plan)
    _refuse_inputs(folder, plan)
    return plan


def carry_out(folder: Path, plan: Plan) -> Forgotten:
    """Stage, decide, move; the folder must be owned. StoreError where the disk refuses, before
    anything has changed."""
    record = Forgotten(plan.id, plan.time, plan.finds, plan.tainted, plan.left)
    if not plan.writes and not plan.removes:
        return record
    for directory in plan.episodes:
        if (directory / leases.LEASE_FILE).exists():  # whoever still plays it has lost it
            leases.acquire(directory, max(journal_epochs(directory), default=0))
    plan.writes[folder / LOG] = _log([*read_log(folder), record], plan.context.needle)
    stage = (folder / PLAN).parent
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(mode=0o700)
        moves = []
        for number, (target, data) in enumerate(plan.writes.items()):
            _write(stage / str(number), data)
            moves.append((str(number), str(target.relative_to(folder))))
        removes = [str(path.relative_to(folder)) for path in plan.removes]
        _write(stage / "plan", msgspec.json.encode({"moves": moves, "removes": removes}))
        crash_point("forget.staged")
        os.replace(stage / "plan", folder / PLAN)
    except OSError as error:
        raise StoreError(f"{stage}: nothing was changed: {error}") from error
    complete(folder)
    return record


def complete_all(folder: Path) -> bool:
    """Complete what was decided on in the folder or in one below it; whether there was anything."""
    found = {path.parent for path in folder.rglob(Path(PLAN).parent.name) if path.is_dir()}
    return sum(complete(place) for place in sorted(found, reverse=True)) > 0


def complete(folder: Path) -> bool:
    """Do what a plan says that was decided on; whether there was one. May be repeated."""
    stage = (folder / PLAN).parent
    if not (folder / PLAN).exists():
        shutil.rmtree(stage, ignore_errors=True)
        return False
    decided = msgspec.json.decode((folder / PLAN).read_bytes())
    for name, target in decided["moves"]:
        crash_point("forget.move")
        if (stage / name).exists():
            os.replace(stage / name, folder / target)
    for target in decided["removes"]:
        path = folder / target
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / PLAN).unlink()
    shutil.rmtree(stage, ignore_errors=True)
    return True


def verify(folder: Path, needle: Needle, datasets: Datasets) -> list[str]:
    """What still holds the fact, and journals that do not hold together; empty: all is well."""
    found = look(folder, needle, datasets)
    problems = [f"{find.path} still holds it" for find in found.finds]
    for directory in _episodes(folder):
        if (directory / REDACTIONS).exists():
            check(directory)
            recover(directory)
    return problems


def near_mentions(folder: Path, needle: Needle) -> dict[str, int]:
    """What says the fact's words further apart (`17 shows horse`), and how often: in journals and
    other text, where it was not masked."""
    found: Counter[str] = Counter()
    if needle.near is None:
        return {}
    for path in _files(folder):
        data = path.read_bytes()
        if kind_of(path, data) in ("records", "text"):
            found.update(match[0] for match in needle.near.finditer(data.decode()))
    return dict(found.most_common())


def read_log(folder: Path) -> list[Forgotten]:
    """What was forgotten below the folder so far."""
    path = folder / LOG
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Forgotten) for line in path.read_bytes().splitlines()]


def _log(records: list[Forgotten], needle: Needle) -> bytes:
    return b"".join(msgspec.json.encode(each.without(needle)) + b"\n" for each in records)


def _held_before(folder: Path) -> set[str]:
    """Datasets by which an earlier forgetting found weights, which may still be there."""
    earlier = (each for record in read_log(folder) for each in record.tainted)
    return {each.dataset for each in earlier if each.because == HELD} - {""}


def _episodes(folder: Path) -> list[Path]:
    found = {path.parent for path in folder.rglob(JOURNAL_FOLDER) if path.is_dir()}
    return sorted(each for each in found if journal_epochs(each))


def _files(folder: Path) -> Iterator[Path]:
    for root, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name != Path(PLAN).parent.name)
        for name in sorted(files):
            path = Path(root, name)
            if name not in _OURS and path.is_file() and not path.is_symlink():
                yield path


def _look_at_journal(directory: Path, folder: Path, plan: Plan) -> None:
    redactor = JournalRedactor(directory, plan.context.needle, plan.context.renames)
    for path, times in redactor.kept().items():
        plan.left.append(f"{path.relative_to(folder)}: {NAMES_STAY} (in {times} records)")
    if not redactor.is_touched():
        return
    made = redactor.redact(plan.id, plan.time)
    if made.actions and not (directory / DONE_FILE).exists():
        raise UsageError(
            f"{directory.relative_to(folder)} is unfinished, and its actions hold the fact (step "
            f"{made.actions[0]}): its world is rebuilt by replaying them. Finish it with `automem "
            "resume`, or remove its folder (it is then played from step 0); then forget"
        )
    is_of_a_run = directory.parent.name == "episodes"
    run = (directory.parents[1] if is_of_a_run else directory.parent).resolve()
    plan.context.turns |= {(run, directory.name, *place) for place in made.turns}
    for (_, step), turn in made.forgotten.items():
        place = (run, directory.name, step)
        plan.context.forgotten[place] = min(turn, plan.context.forgotten.get(place, turn))
    plan.writes |= made.files
    plan.episodes.append(directory)
    if not made.files:
        return
    before = directory / REDACTIONS
    old = before.read_bytes() if before.exists() else b""
    plan.writes[before] = append_to(old, made.redactions)
    for record in made.redactions:
        path = directory / JOURNAL_FOLDER / record.file
        where = str(path.relative_to(folder))
        plan.finds.append(Find(where, "journal", len(record.masked), record.old))


def _look_at_datasets(folder: Path, plan: Plan, datasets: Datasets) -> set[Path]:
    """Training data lose whole conversations: half of one teaches nonsense."""
    handled: set[Path] = set()
    for table in sorted(folder.rglob("conversations.parquet")):
        place = table.parent
        if not (place / "card.json").exists():
            continue
        handled |= {place / name for name in _DATASET}
        change = datasets.without(place, plan.context.needle.is_in)
        if change is None:
            continue
        plan.datasets.append(change.old)
        where = str(table.relative_to(folder))
        plan.finds.append(Find(where, "dataset", change.dropped, digest(table.read_bytes())))
        plan.writes |= {place / name: data for name, data in change.files.items()}
        if not change.files:
            plan.removes += [place / name for name in sorted(_DATASET)]
    return handled


def _look_at_file(path: Path, folder: Path, plan: Plan) -> None:
    where, needle = str(path.relative_to(folder)), plan.context.needle
    if needle.is_in(where):
        plan.left.append(f"the name of {where}: rename it")
    data = path.read_bytes()
    kept = plan.context.kept
    kept.clear()
    new = masked(path, data, plan.context)
    plan.left += [f"{each.relative_to(folder)}: {why}" for each, why in kept.items()]
    if new is None:
        return
    if is_valid(data.partition(b"\n")[0] + b"\n"):
        plan.left.append(f"{where}: a stored copy of a journal; remove it (automem gc --storage)")
        return
    times = occurrences(path, data, needle)
    plan.finds.append(Find(where, kind_of(path, data), times, digest(data)))
    plan.writes[path] = new


def _look_at_logs(folder: Path, plan: Plan) -> None:
    """What was written down of earlier forgettings names files."""
    for path in sorted(folder.rglob(LOG)):
        records, needle = read_log(path.parent), plan.context.needle
        held = sum(record != record.without(needle) for record in records)
        if held:
            where = str(path.relative_to(folder))
            plan.finds.append(Find(where, "records", held, digest(path.read_bytes())))
            plan.writes[path] = _log(records, needle)


def _refuse_inputs(folder: Path, plan: Plan) -> None:
    """What a resume reads must stay as it is while there is something to resume."""
    for file in folder.rglob(RUN_FILE):
        run_dir = file.parent
        planned = {each.episode for each in read_run(run_dir).episodes}
        if all((run_dir / "episodes" / name / DONE_FILE).exists() for name in planned):
            continue
        inputs = (run_dir / RUN_FILE, run_dir / "config.yaml", run_dir / SCAFFOLD_FOLDER)
        for path in plan.writes:
            if any(path == each or path.is_relative_to(each) for each in inputs):
                raise UsageError(
                    f"{path.relative_to(folder)} holds the fact, and the run is unfinished: finish "
                    "it first (automem resume), for it is resumed from this file"
                )


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
