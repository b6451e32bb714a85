"""Where else a fact lies that is forgotten below a folder: the store that the folder's runs and
loops are kept in, workers' scratch folders on this machine, and what links lead to.

Promise: nothing is changed, and every such place that holds the fact is named with what to do; one
that cannot be read is named too, for nothing is known of it. A journal in segments is put together
first, so that a fact which only several edits spell is found. Not covered: scratch folders of other
machines, and what a store holds of runs that have no `run.json` here.
"""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from automem.audit.files import Context, masked
from automem.audit.journals import JournalRedactor
from automem.audit.needle import Needle
from automem.audit.weights import PROGRESS, learned_from
from automem.errors import StoreError, UsageError
from automem.loops.stored_loop import LOOPS, OWNER, loops_below, rollouts_of
from automem.rollout.chain import JOURNAL_FOLDER, journal_epochs
from automem.rollout.finish import DONE_FILE
from automem.rollout.run_dir import CONFIG_FILE, RUN_FILE, STORED_RUNS, RunFile, read_run
from automem.rollout.scratch import scratch_dirs
from automem.rollout.segments import SegmentStore, restore
from automem.rollout.stored_run import ADAPTERS
from automem.storage.store import PARALLEL, Store

TRAINING = "training"
"""Where Ray Train keeps checkpoints in a store: a folder for each job."""
_ABOVE = 4
"""A run lies at most so far above one of its folders."""


def elsewhere(folder: Path, needle: Needle, sources: Collection[str] = ()) -> list[str]:
    """Each place in words, with what to do. `sources`: digests of datasets that held the fact and
    of weights that saw it, by which copies and checkpoints in stores are known."""
    found = _links(folder, needle)
    runs = {place: read_run(place) for place in _marked(folder, RUN_FILE)}
    for place, run in runs.items():
        if url := run.spec.storage_url:
            found += _read(url, _in_run, place, run, needle)
            for scratch in scratch_dirs(url):
                found += _read(str(scratch), _in_scratch, needle)
        if url := run.spec.segments_url:
            found += _read(url, _in_segments, run, needle)
    urls = {run.spec.storage_url for run in runs.values()} - {""}
    for base in sorted({url.rpartition(f"/{STORED_RUNS}/")[0] for url in urls} | _bases(folder)):
        if base:
            found += _read(base, _in_loops, folder, urls, needle)
            found += _read(base, _weights, sources) if sources else []
    return found


def _marked(folder: Path, name: str) -> list[Path]:
    """Folders with a file of this name: below, or what `folder` is a part of."""
    above = [place for place in folder.parents[:_ABOVE] if (place / name).is_file()]
    return sorted({path.parent for path in folder.rglob(name)} | set(above))


def _bases(folder: Path) -> set[str]:
    """What the settings of loops say of their store."""
    found = set()
    for place in _marked(folder, CONFIG_FILE):
        try:
            url = str(OmegaConf.select(OmegaConf.load(place / CONFIG_FILE), "storage.url") or "")
        except (OmegaConfBaseException, OSError, ValueError):
            continue  # no settings of ours
        found.add(url if "://" in url or not url else str(Path(url).expanduser().resolve()))
    return found - {""}


def _read(place: str, search: Callable[..., list[str]], *given: Any) -> list[str]:
    """What `search(place, *given)` finds; where it cannot, that it could not."""
    try:
        return search(place, *given)
    except (StoreError, UsageError, OSError) as error:
        return [f"{place} cannot be read, so nothing is known of what it holds: {error}"]


# The store


def _in_run(url: str, run_dir: Path, run: RunFile, needle: Needle) -> list[str]:
    store = Store(url)
    names = _holding(store, store.tree(), needle)
    segments = run.spec.segments_url or f"{url}/segments"
    if not run.spec.segments_url:
        names += _spelled(segments, store.names("segments"), names, needle)
    if not names:
        return []
    stored = {name.removesuffix(".json") for name in store.names("done")}
    begun = stored | set(store.names("segments"))
    lacking = [one for one in begun if not (run_dir / "episodes" / one / DONE_FILE).exists()]
    first = (
        f"{len(lacking)} of its episodes are not here whole: fetch them (automem resume {run_dir}, "
        "or automem jobs fetch) and forget here; then "
        if lacking
        else ""
    )
    base = url.rpartition(f"/{STORED_RUNS}/")[0]
    return [
        f"{url} holds it in {_grouped(names)}: {first}remove the stored copy (automem gc --storage "
        f"{base} --level runs --yes takes every finished run there)"
    ]


def _in_segments(url: str, run: RunFile, needle: Needle) -> list[str]:
    """Journals that are copied to a place of their own."""
    store = Store(url)
    episodes = [each.episode for each in run.episodes]
    names = [f"{one}/{name}" for one in episodes for name in store.tree(one)]
    held = _holding(store, names, needle)
    held += _spelled(url, episodes, [f"segments/{name}" for name in held], needle)
    return [f"{url} holds it in {_grouped(held)}: remove these segments"] if held else []


def _spelled(url: str, episodes: Iterable[str], known: list[str], needle: Needle) -> list[str]:
    """Episodes whose journal holds it where no segment does by itself."""
    store, found = SegmentStore(url), []
    seen = {name.split("/")[1] for name in known if name.startswith("segments/")}
    for episode in sorted(set(episodes) - seen):
        with tempfile.TemporaryDirectory(prefix="automem-forget-") as made:
            directory = Path(made, episode)
            if restore(store, directory) and JournalRedactor(directory, needle, {}).is_touched():
                found.append(f"segments/{episode}")
    return found


def _in_loops(base: str, folder: Path, runs: set[str], needle: Needle) -> list[str]:
    """Loops of the store that are this folder's: by name, or since they name its runs."""
    found = []
    named = {folder.name, *(place.name for place in _marked(folder, OWNER))}
    for loop, manifest in loops_below(base):
        if loop.url.rpartition(f"/{LOOPS}/")[2] not in named and not (
            rollouts_of(loop, manifest) & runs
        ):
            continue
        paths = {digest: path for path, digest in manifest.files.items()}
        objects = {f"objects/{name}": paths.get(name, name) for name in loop.names("objects")}
        held = _holding(loop, objects, needle, objects.__getitem__)
        if held:
            each = ", ".join(f"{name} ({objects[name]})" for name in held)
            found.append(
                f"{loop.url} holds it in {each}: forget in the loop's folder, then go on with the "
                "loop, which stores the folder anew, or remove the stored copy (automem gc "
                f"--storage {base} --level runs --yes takes every finished loop there)"
            )
    return found


def _weights(base: str, sources: Collection[str]) -> list[str]:
    """What lies beside a store's runs: adapters that engines load, checkpoints of trainings."""
    store = Store(base)
    held = dict[str, None]()
    for place in (f"{ADAPTERS}/{name}" for name in store.names(ADAPTERS)):
        digest = hashlib.blake2b(digest_size=16)
        for name in store.names(place):
            if name.endswith(".safetensors"):
                digest.update(store.read(f"{place}/{name}") or b"")
        if digest.hexdigest() in sources:
            held[place] = None
    for name in store.tree(TRAINING):
        if name.rpartition("/")[2] == PROGRESS:
            progress = store.read(f"{TRAINING}/{name}") or b""
            if set(learned_from(progress)) & set(sources):
                held[f"{TRAINING}/{name.split('/')[0]}"] = None
    return [
        f"{base}/{place}: weights that learned it: remove them from the store" for place in held
    ]


def _holding(
    store: Store,
    names: Iterable[str],
    needle: Needle,
    path_of: Callable[[str], str] = str,
) -> list[str]:
    """Objects that hold it."""

    def holds(name: str) -> bool:
        data = store.read(name)
        return data is not None and _holds(Path(path_of(name)), data, needle)

    wanted = list(names)
    with ThreadPoolExecutor(PARALLEL) as pool:
        is_held = list(pool.map(holds, wanted))
    return [name for name, held in zip(wanted, is_held, strict=True) if held]


# This machine


def _in_scratch(folder: str, needle: Needle) -> list[str]:
    held = list(_held_below(Path(folder), needle))
    if not held:
        return []
    return [
        f"{folder}, where a worker played, holds it in {_grouped(held)}: remove the folder "
        "(automem gc --scratch --yes removes those a day old)"
    ]


def _links(folder: Path, needle: Needle) -> list[str]:
    """Links are not followed when the folder is searched: what they lead to lies elsewhere."""
    found = []
    for root, folders, files in os.walk(folder):
        for path in sorted(Path(root, name) for name in [*folders, *files]):
            if path.is_symlink():
                found += _read(str(path), _through, folder, needle)
    return found


def _through(link: str, folder: Path, needle: Needle) -> list[str]:
    where, target = Path(link).relative_to(folder), Path(link).resolve()
    found = []
    if needle.is_in(str(where)):
        found.append(f"the name of {where}: rename it")
    if needle.is_in(os.readlink(link)):
        found.append(f"{where}: the name of what this link leads to: remove the link")
    if target.is_relative_to(folder) or not target.exists():
        return found
    if folder.is_relative_to(target):
        return [*found, f"{where} leads to {target}, around this folder: not followed"]
    if any(_held_below(target, needle)):
        found.append(f"{where} leads to {target}, which holds it: forget there")
    return found


def _held_below(place: Path, needle: Needle) -> Iterator[str]:
    """Files of a folder, or the file itself, that hold it."""
    if place.is_file():
        if _holds(place, place.read_bytes(), needle):
            yield place.name
        return
    for root, folders, files in os.walk(place):
        folders.sort()
        here = Path(root)
        if here.name == JOURNAL_FOLDER and journal_epochs(here.parent):
            if JournalRedactor(here.parent, needle, {}).is_touched():
                yield str(here.relative_to(place))
            continue
        for path in sorted(here / name for name in files):
            is_plain = path.is_file() and not path.is_symlink()
            if is_plain and _holds(path, path.read_bytes(), needle):
                yield str(path.relative_to(place))


def _holds(path: Path, data: bytes, needle: Needle) -> bool:
    context = Context(needle)
    return needle.is_in(path.name) or masked(path, data, context) is not None or bool(context.kept)


def _grouped(names: Iterable[str]) -> str:
    """`segments/toy-1-0 (3), tables/ops (2)`: two levels tell a person enough."""
    counts = Counter("/".join(name.split("/")[:2]) for name in names)
    return ", ".join(f"{name} ({times})" for name, times in counts.items())
