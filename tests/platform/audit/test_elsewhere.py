"""Forgetting: what a store, a worker's folder and links hold is found and named."""

import json
import re
import shutil
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from support.toy_world import toy_spec

from automem import cli
from automem.audit.forget import Forgotten
from automem.audit.weights import HELD, Tainted
from automem.loops.stored_loop import StoredLoop
from automem.memory.ops import Edit
from automem.rollout.chain import encode
from automem.rollout.run import run_rollout
from automem.rollout.run_dir import read_run
from automem.rollout.scratch import scratch_dir
from automem.storage.store import Store
from automem.trace.blobs import CHAIN_START, next_link
from automem.trace.events import Attempt, EpisodeStarted, MemoryChanged

SEEDS = "seeds.jsonl"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMEM_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("AUTOMEM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def run_dir(store: Store, tmp_path: Path) -> Path:
    """A finished run that is stored."""
    place = tmp_path / "run"
    assert run_rollout(toy_spec(seeds=[1], workers=0, storage_url=store.url), place).is_complete
    return place


def note_of(run_dir: Path) -> str:
    """A line that the agent wrote."""
    [journal] = run_dir.glob("episodes/*/journal/*.jsonl")
    return re.findall(r"actions\.txt\|(\d+ \w+ \w+)<", journal.read_text())[2]


def forget(folder: Path, fact: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and what was said."""
    capsys.readouterr()
    code = cli.main(["forget", str(folder), fact])
    return code, capsys.readouterr().out


def test_a_stored_run_whose_episodes_are_not_here_is_named_with_what_to_do(
    run_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    fact, url = note_of(run_dir), read_run(run_dir).spec.storage_url
    shutil.rmtree(run_dir / "episodes")
    shutil.rmtree(run_dir / "tables")
    code, said = forget(run_dir, fact, capsys)
    assert code == cli.FAILED
    assert "it is nowhere" not in said
    assert "nothing below" not in said
    [line] = [line for line in said.splitlines() if line.startswith(f"not reached: {url} ")]
    for place in ("segments/toy-1-0 (", "tables/ops (1)", "memory/toy-1-0 ("):
        assert place in line
    assert f"fetch them (automem resume {run_dir}" in line
    assert f"automem gc --storage {store.url} --level runs --yes" in line


def test_a_stored_run_is_named_only_where_it_holds_the_fact(
    run_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    fact = note_of(run_dir)
    code, said = forget(run_dir, "23 crab", capsys)
    assert (code, "it is nowhere" in said) == (0, True)
    code, said = forget(run_dir, fact, capsys)
    assert code == cli.FAILED
    assert "not here whole" not in said
    assert cli.main(["gc", "--storage", store.url, "--level", "runs", "--yes"]) == 0
    code, said = forget(run_dir, fact, capsys)
    assert (code, "it is nowhere" in said) == (0, True)


def test_a_stored_journal_that_spells_the_fact_over_two_edits_is_found(
    run_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        encode(Attempt(1, 0, 0, "host", 1, 0.0)),
        encode(EpisodeStarted(1, "toy-9-0", "w", 1, 0, 0, 5, "p", "s", "play", "wait")),
    ]
    chain = CHAIN_START
    for edit in (
        Edit("cards.txt", inserted="17 cat\n", creates=True),
        Edit("cards.txt", start=3, removed=3, inserted="horse"),
    ):
        chain = next_link(chain, edit)
        lines.append(encode(MemoryChanged(0, "initial", edit, chain)))
    run = Store(read_run(run_dir).spec.storage_url)
    run.write("segments/toy-9-0/0001/lease.json", b"{}")
    run.write("segments/toy-9-0/0001/000001-3.jsonl", b"".join(lines[:3]))
    run.write("segments/toy-9-0/0001/000002-1.jsonl", lines[3])
    code, said = forget(run_dir, "17 horse", capsys)
    assert code == cli.FAILED
    assert "segments/toy-9-0 (1)" in said


def test_segments_in_a_place_of_their_own_are_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, place = str(tmp_path / "segments"), tmp_path / "run"
    assert run_rollout(toy_spec(seeds=[1], workers=0, segments_url=url), place).is_complete
    code, said = forget(place, note_of(place), capsys)
    assert code == cli.FAILED
    assert f"not reached: {url} holds it in toy-1-0/0001 (1): remove these segments" in said


def test_a_store_that_cannot_be_read_is_no_proof(
    run_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    url = read_run(run_dir).spec.storage_url
    Store(url).write("tables/ops/toy-1-0.parquet", b"PAR1 and no more")
    code, said = forget(run_dir, "23 crab", capsys)
    assert code == cli.FAILED
    assert f"{url} cannot be read, so nothing is known of what it holds" in said
    assert "it is nowhere" not in said


def test_what_a_worker_of_this_run_left_on_the_machine_is_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = scratch_dir(read_run(run_dir).spec.storage_url)
    other = scratch_dir("s3://bucket/runs/another")
    for place in (mine, other):
        (place / "episodes" / "e" / "memory").mkdir(parents=True)
        (place / "episodes" / "e" / "memory" / "cards.txt").write_text("23 crab\n")
    code, said = forget(run_dir, "23 crab", capsys)
    assert code == cli.FAILED
    assert f"{mine}, where a worker played, holds it in episodes/e (1): remove" in said
    assert str(other) not in said


@pytest.mark.parametrize("moved", [False, True])
def test_a_stored_loop_is_named_with_the_objects(
    run_dir: Path, store: Store, moved: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_dir.parent / "mine"
    shutil.move(run_dir, folder / "race")
    for name in ("mine", "other"):
        stored = StoredLoop(store.url, run_dir.parent / name, SEEDS)
        stored.begin()
        (run_dir.parent / name / "notes.txt").write_text("23 crab\n")
        stored.keep()
    if moved:
        folder = Path(shutil.move(folder, run_dir.parent / "copy"))
    code, said = forget(folder, "23 crab", capsys)
    assert code == cli.FAILED
    [line] = [line for line in said.splitlines() if "/loops/" in line]
    assert f"not reached: {store.url}/loops/mine holds it in objects/" in line
    assert "(notes.txt): forget in the loop's folder" in line
    if not moved:
        again = StoredLoop(store.url, folder, SEEDS)
        again.begin()
        again.keep()
        assert forget(folder, "23 crab", capsys)[0] == 0


def test_a_stores_copies_of_weights_that_learned_it_are_named(
    run_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = b"\x00\xff"
    digest = blake2b(weights, digest_size=16).hexdigest()
    gone = Tainted("zero", "gone", "d-held", 1, 1, 1.0, HELD)
    log = msgspec.json.encode(Forgotten("id", 0.0, [], [gone], []))
    (run_dir / "forgotten.jsonl").write_bytes(log + b"\n")
    card = {"name": "one", "path": "adapter", "dataset": "d-held", "weights": digest}
    (run_dir / "adapter.json").write_text(json.dumps(card))
    store.write("adapters/one-1a/adapter_model.safetensors", weights)
    store.write("adapters/two-2b/adapter_model.safetensors", b"\x01")
    for job, sources in (("j1", ["d-held"]), ("j2", ["d-free"]), ("j3", ["d-free", digest])):
        progress = json.dumps({"sources": sources}).encode()
        store.write(f"training/{job}/train-1/checkpoint_1/progress.json", progress)
    code, said = forget(run_dir, "23 crab", capsys)
    assert code == cli.FAILED
    places = re.findall(rf"not reached: {store.url}/(\S+): weights", said)
    assert places == ["adapters/one-1a", "training/j1", "training/j3"]


def test_what_links_lead_to_is_named_where_it_holds_the_fact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "own.txt").write_text("23 crab\n")
    (outside / "held.txt").write_text("23 crab\n")
    (outside / "free.txt").write_text("05 owl\n")
    (folder / "in").symlink_to(folder / "own.txt")
    (folder / "file").symlink_to(outside / "held.txt")
    (folder / "free").symlink_to(outside / "free.txt")
    (folder / "all").symlink_to(outside)
    (folder / "gone").symlink_to(outside / "nothing")
    code, said = forget(folder, "23 crab", capsys)
    assert code == cli.FAILED
    places = re.findall(r"not reached: (\w+) leads to", said)
    assert places == ["all", "file"]
    assert (outside / "held.txt").read_text() == "23 crab\n"
