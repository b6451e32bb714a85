"""Forgetting: weights and tokenizers stay as they are, and what stays is named."""

import json
import zipfile
from hashlib import blake2b
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automem import cli
from automem.audit.forget import Forgotten, read_log
from automem.audit.weights import HELD, Tainted
from automem.registry import Registry


def forget(folder: Path, capsys: pytest.CaptureFixture[str], fact: str) -> tuple[int, str]:
    """The exit code, and what was said."""
    capsys.readouterr()
    code = cli.main(["forget", str(folder), fact])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "gate.pt", "pytorch_model.bin"])
def test_weights_are_not_masked_and_are_named_where_their_bytes_hold_the_fact(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = b"\x00\xff\x01owl\x00\x80"
    (tmp_path / name).write_bytes(data)
    (tmp_path / f"other.{name}").write_bytes(b"\x00\xff\x01\x00")
    code, said = forget(tmp_path, capsys, "owl")
    assert (tmp_path / name).read_bytes() == data
    assert code == cli.FAILED
    assert f"not reached: {name}: its bytes hold it" in said
    assert "other." not in said
    assert "it is nowhere" not in said
    assert "nothing below" not in said


def test_weights_that_are_an_archive_are_kept_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gate.pt", "all.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("a/model.safetensors", b"\x00\xff owl \x00")
            file.writestr("a/notes.txt", "an owl")
    before = (tmp_path / "gate.pt").read_bytes()
    code, said = forget(tmp_path, capsys, "owl")
    assert code == cli.FAILED
    assert (tmp_path / "gate.pt").read_bytes() == before
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        assert file.read("a/model.safetensors") == b"\x00\xff owl \x00"
        assert file.read("a/notes.txt") == b"an ___"
    assert "all.zip/a/model.safetensors: its bytes" in said


def test_a_tokenizer_keeps_its_words_and_a_memory_of_the_same_name_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, memory = tmp_path / "model", tmp_path / "memory"
    model.mkdir()
    memory.mkdir()
    (model / "config.json").write_text("{}")
    words = json.dumps({"model": {"vocab": {"owl": 1}}})
    names = ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json")
    for name in names:
        (model / name).write_text(words)
    (memory / "vocab.txt").write_text("owl\n")
    (memory / "notes.bin").write_text("an owl\n")
    code, said = forget(tmp_path, capsys, "owl")
    assert code == cli.FAILED
    for name in names:
        assert (model / name).read_text() == words
        assert f"model/{name}: the tokenizer's words hold it" in said
    assert (memory / "vocab.txt").read_text() == "___\n"
    assert (memory / "notes.bin").read_text() == "an ___\n"


def test_other_binaries_keep_their_length_in_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = b"\x00\xff17 caf\xc3\xa9\x00\xff"
    (tmp_path / "events.dat").write_bytes(data)
    assert forget(tmp_path, capsys, "17 café")[0] == 0
    assert (tmp_path / "events.dat").read_bytes() == b"\x00\xff__ _____\x00\xff"


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_a_table_holds_is_counted_in_its_cells(
    tmp_path: Path, compression: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"note": ["17 horse, 17 horse", "owl", "17 horse"], "all": [["17 horse"], [], []]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet", compression=compression)
    assert forget(tmp_path, capsys, "17 horse")[0] == 0
    [find] = read_log(tmp_path)[0].finds
    assert (find.kind, find.occurrences) == ("table", 4)


def test_the_record_of_a_forgetting_holds_no_fact_of_it_or_of_a_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = tmp_path / "run"
    below.mkdir()
    (below / "17 horse.txt").write_text("05 owl and 17 horse\n")
    code, said = forget(below, capsys, "05 owl")
    assert code == 0
    assert "17 horse.txt" in (below / "forgotten.jsonl").read_text()
    code, said = forget(tmp_path, capsys, "17 horse")
    assert code == cli.FAILED
    assert "the name of run/17 horse.txt: rename it" in said
    assert "run/forgotten.jsonl" in said
    for folder in (below, tmp_path):
        assert "17 horse" not in (folder / "forgotten.jsonl").read_text()
    assert read_log(tmp_path)[0].left == ["the name of run/__ _____.txt: rename it"]
    code, said = forget(tmp_path, capsys, "17 horse")
    assert len(read_log(tmp_path)) == 1


def trained(folder: Path, dataset: str, name: str = "one", weights: bytes = b"\x00\xff") -> Path:
    """An adapter and its card."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(weights)
    digest = blake2b(weights, digest_size=16).hexdigest()
    card = {"name": name, "path": "adapter", "dataset": dataset, "weights": digest, "steps": 40}
    (folder / "adapter.json").write_text(json.dumps(card))
    return folder


def checkpoint(folder: Path, *sources: str) -> Path:
    """One that a training has left there."""
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"job": "j", "sources": sources}))
    (folder / "state-0.pt").write_bytes(b"\x00\xff")
    return folder


@pytest.fixture
def held(tmp_path: Path) -> str:
    """Digest of a dataset that an earlier forgetting found to hold the fact."""
    gone = Tainted("zero", "gone", "d-held", 1, 1, 1.0, HELD)
    heir = Tainted("heir", "gone", "d-free", 1, 1, 1.0, "its training began from zero")
    record = Forgotten("id", 0.0, [], [gone, heir], [])
    (tmp_path / "forgotten.jsonl").write_bytes(msgspec.json.encode(record) + b"\n")
    return "d-held"


def test_checkpoints_go_where_their_training_saw_the_fact_and_others_stay(
    tmp_path: Path, held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = trained(tmp_path / "round-1", held)
    weights = json.loads((adapter / "adapter.json").read_text())["weights"]
    goes = [
        checkpoint(tmp_path / "own" / "checkpoints" / "step-000010", held),
        checkpoint(tmp_path / "ray-train" / "ray" / "train-1" / "checkpoint_1", held),
        checkpoint(tmp_path / "heir" / "checkpoints" / "step-000010", "d-free", weights),
        checkpoint(tmp_path / "round-1" / "checkpoints" / "step-000010", held),
    ]
    (tmp_path / "own" / ".made").mkdir()
    stays = [
        checkpoint(tmp_path / "other" / "checkpoints" / "step-000010", "d-free"),
        checkpoint(tmp_path / "other" / "ray" / "train-2" / "checkpoint_1", "d-free"),
    ]
    (tmp_path / "rllib" / "checkpoints").mkdir(parents=True)
    code, said = forget(tmp_path, capsys, "17 horse")
    assert code == cli.FAILED
    assert "removed: own/checkpoints" in said
    assert "removed: ray-train/ray" in said
    assert not any(place.exists() for place in [*goes, tmp_path / "own" / ".made"])
    assert all((place / "state-0.pt").exists() for place in stays)
    assert (tmp_path / "rllib" / "checkpoints").exists()
    assert (adapter / "adapter").exists()


def test_adapters_of_one_name_are_each_named_and_so_is_a_copy_in_a_registry(
    tmp_path: Path, held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trained(tmp_path / "seed-0" / "round-1", held)
    trained(tmp_path / "seed-1" / "round-1", held, weights=b"\x01\xff")
    trained(tmp_path / "seed-2" / "round-1", "d-free", weights=b"\x02\xff")
    registry = Registry(tmp_path / "registry")
    _, kept = registry.keep_adapter(one / "adapter")
    registry.keep_adapter(tmp_path / "seed-2" / "round-1" / "adapter")
    code, said = forget(tmp_path, capsys, "17 horse")
    assert code == cli.FAILED
    named = [line.split()[3] for line in said.splitlines() if line.startswith("cannot be undone")]
    assert named == ["seed-0/round-1", "seed-1/round-1", f"registry/{kept}"]
    assert "a copy of seed-0/round-1" in said
