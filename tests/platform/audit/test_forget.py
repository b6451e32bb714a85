"""Forgetting: nothing below the folder holds the fact, the journal verifies, the run goes on."""

import gzip
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.drivers import TESTS, end_of, start_driver
from support.toy_world import toy_spec

from automem import cli
from automem.audit.needle import fact_needle, pattern_needle
from automem.errors import StoreError, UsageError
from automem.memory.ops import Edit
from automem.rollout.chain import encode, iter_events
from automem.rollout.recovery import recover
from automem.rollout.redactions import REDACTIONS, check, read_redactions
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import locked
from automem.trace.blobs import CHAIN_START, next_link
from automem.trace.events import Attempt, EpisodeStarted, MemoryChanged, Observed
from automem.trace.summary import write_summary

SEEDS = {"seeds": [1, 2]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    assert run_rollout(toy_spec(**SEEDS), place).is_complete
    write_summary(place)
    return place


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def cut_short(place: Path, point: str) -> Path:
    """A run whose process was killed."""
    code, output = end_of(start_driver(place, SEEDS, AUTOMEM_CRASH=point))
    assert code == -signal.SIGKILL, output
    return place


def note_of(run_dir: Path, number: int) -> str:
    """A line that the agent wrote."""
    journals = sorted(run_dir.glob("episodes/*/journal/*.jsonl"))
    return re.findall(r"actions\.txt\|(\d+ \w+ \w+)<", journals[0].read_text())[number]


def searched(place: Path) -> str:
    """Everything below a folder as text: file names, bytes, tables as rows."""
    texts = []
    for path in sorted(place.rglob("*")):
        texts.append(str(path.relative_to(place)))
        if path.suffix == ".parquet":
            texts.append(json.dumps(pq.read_table(path).to_pylist()))
        elif path.is_file():
            texts.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(texts)


def test_a_fact_is_gone_from_journals_tables_memory_and_logs(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fact = note_of(run_dir, 2)
    (run_dir / "my.log").write_text(f"the agent wrote {fact.upper()} there\n")
    assert fact in searched(run_dir)
    assert cli.main(["forget", str(run_dir), fact]) == 0
    assert not re.search(re.escape(fact), searched(run_dir), re.IGNORECASE)
    said = capsys.readouterr().out
    for place in ("journal/0001.jsonl", "tables/ops", "memory/actions.txt", "my.log"):
        assert place in said
    for episode in (run_dir / "episodes").iterdir():
        recover(episode)
        check(episode)
    assert resume_run(run_dir).is_complete


def test_forgetting_again_finds_nothing_and_changes_nothing(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fact = note_of(run_dir, 1)
    cli.main(["forget", str(run_dir), fact])
    before = {path: path.read_bytes() for path in run_dir.rglob("*.jsonl")}
    capsys.readouterr()
    assert cli.main(["forget", str(run_dir), fact]) == 0
    assert "it is nowhere" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run_dir.rglob("*.jsonl")} == before


def test_a_dry_run_lists_the_places_and_changes_nothing(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = searched(run_dir / "episodes")
    assert cli.main(["forget", str(run_dir), note_of(run_dir, 2), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "journal/0001.jsonl" in said
    assert "nothing was changed" in said
    assert searched(run_dir / "episodes") == before


def test_a_redaction_record_says_what_when_and_the_old_digest_and_tampering_shows(
    run_dir: Path,
) -> None:
    journals = sorted(run_dir.glob("episodes/*/journal/*.jsonl"))
    cli.main(["forget", str(run_dir), note_of(run_dir, 2)])
    episode = journals[0].parents[1]
    record = read_redactions(episode)[0]
    assert record.file == "0001.jsonl"
    assert record.first <= min(record.masked) <= max(record.masked) <= record.last
    assert record.old != record.new
    journals[0].write_bytes(journals[0].read_bytes().replace(b'"step":3', b'"step":4', 1))
    with pytest.raises(StoreError, match="changed after its redaction"):
        check(episode)
    lines = (episode / REDACTIONS).read_bytes() * 2
    (episode / REDACTIONS).write_bytes(lines)
    with pytest.raises(StoreError, match="does not follow"):
        read_redactions(episode)


@pytest.mark.parametrize("point", ["event.turn:14", "event.commit:5"])
def test_a_half_played_run_is_killed_forgets_and_goes_on(tmp_path: Path, point: str) -> None:
    place = cut_short(tmp_path / "run", point)
    episode = next(each for each in sorted((place / "episodes").iterdir()))
    steps = [event for event in iter_events(episode) if isinstance(event, Observed)]
    last = steps[-1].step
    # What the agent sees in the step under way, and what it wrote of the one before.
    pattern = rf"\b{last} lamp \w+|\b{last} (?:red|green|blue|purple) \w+"
    assert cli.main(["forget", str(place), "--pattern", pattern]) == 0
    assert not re.search(pattern, searched(place))
    assert recover(episode).redacted
    assert resume_run(place).is_complete
    assert sum(1 for _ in episode.glob("journal/*.jsonl")) == 2
    assert not re.search(pattern, (episode / "journal" / "0001.jsonl").read_text())
    check(episode)
    assert cli.main(["forget", str(place), "--pattern", pattern]) == 0
    assert not re.search(pattern, searched(place))


def test_an_unfinished_episode_whose_actions_hold_the_fact_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = cut_short(tmp_path / "run", "event.commit:5")
    before = searched(place / "episodes")
    assert cli.main(["forget", str(place), "--pattern", "red|green|blue"]) == cli.USAGE
    assert "replaying" in capsys.readouterr().err
    assert searched(place / "episodes") == before


@pytest.mark.parametrize("point", ["forget.staged:1", "forget.move:4"])
def test_a_forgetting_that_is_killed_is_completed_by_the_same_command(
    run_dir: Path, point: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fact = note_of(run_dir, 2)
    killed = subprocess.run(
        [sys.executable, "-m", "automem.cli", "forget", str(run_dir), fact],
        env={"AUTOMEM_CRASH": point, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(TESTS)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    if point != "forget.staged:1":
        with pytest.raises(UsageError, match="automem forget"):
            resume_run(run_dir)
    assert cli.main(["forget", str(run_dir), fact]) == 0
    assert fact not in searched(run_dir)
    assert not (run_dir / ".forget").exists()
    for episode in (run_dir / "episodes").iterdir():
        recover(episode)
        check(episode)
    assert resume_run(run_dir).is_complete


def test_a_run_that_is_being_played_is_refused(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(run_dir):
        assert cli.main(["forget", str(run_dir), "17 horse"]) == cli.USAGE
        assert "is being played" in capsys.readouterr().err
        assert cli.main(["forget", str(run_dir / "episodes"), "17 horse"]) == cli.USAGE


def written(directory: Path, edits: list[Edit]) -> Path:
    """An episode whose memory was changed by these edits."""
    events: list[Any] = [
        Attempt(1, 0, 0, "host", 1, 0.0),
        EpisodeStarted(1, "e", "w", 1, 0, 0, 5, "p", "s", "play", "wait"),
    ]
    chain = CHAIN_START
    for edit in edits:
        chain = next_link(chain, edit)
        events.append(MemoryChanged(0, "initial", edit, chain))
    (directory / "journal").mkdir(parents=True)
    (directory / "journal" / "0001.jsonl").write_bytes(b"".join(map(encode, events)))
    return directory


def test_a_fact_that_only_two_edits_together_spell_is_masked_in_both(tmp_path: Path) -> None:
    edits = [
        Edit("cards.txt", inserted="05 owl\n17 cat\n", creates=True),
        Edit("cards.txt", start=10, removed=3, inserted="horse"),
        Edit("cards.txt", start=0, removed=2, inserted="06"),
    ]
    episode = written(tmp_path / "e", edits)
    files = recover(episode).history
    assert files is not None
    assert files.files["cards.txt"] == "06 owl\n17 horse\n"
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    after = recover(episode).history
    assert after is not None
    assert after.files["cards.txt"] == "06 owl\n__ _____\n"


def test_archives_are_opened_and_other_bytes_masked_in_place(tmp_path: Path) -> None:
    (tmp_path / "log.txt.gz").write_bytes(gzip.compress(b"saw 17 horse\n"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("notes.json", '{"note": "17 horse", "card": 17}')
    (tmp_path / "all.zip").write_bytes(packed.getvalue())
    (tmp_path / "events.dat").write_bytes(b"\x00\xff17 horse\x00")
    (tmp_path / "card.json").write_text('{"n": 17, "horse": 1, "say": "17\\u0020horse"}')
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    assert gzip.decompress((tmp_path / "log.txt.gz").read_bytes()) == b"saw __ _____\n"
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        assert json.loads(file.read("notes.json")) == {"note": "__ _____", "card": 17}
    assert (tmp_path / "events.dat").read_bytes() == b"\x00\xff__ _____\x00"
    assert json.loads((tmp_path / "card.json").read_text()) == {
        "n": 17,
        "horse": 1,
        "say": "__ _____",
    }


def test_a_folder_of_plain_files_is_left_with_them_and_the_record(tmp_path: Path) -> None:
    (tmp_path / "cards.txt").write_text("05 owl\n17 horse\n")
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cards.txt", "forgotten.jsonl"}
    assert "horse" not in (tmp_path / "forgotten.jsonl").read_text()


def test_the_fact_in_other_words_is_kept_and_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("17 shows horse\n17 horse\n17 cat, and no horse\n17\nhorse")
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    assert (tmp_path / "log.txt").read_text().startswith("17 shows horse\n__ _____\n17 cat")
    said = capsys.readouterr().out
    assert "in other words: '17 shows horse' (1), '17 cat, and no horse' (1)" in said


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_table_keeps_schema_and_groups_and_loses_the_tokens_of_what_is_masked(
    tmp_path: Path, compression: str
) -> None:
    rows = {
        "completion": ["17 horse", "05 owl"],
        "token_ids": [[1, 2], [3, 4]],
        "prompt": [[{"role": "user", "text": "down 17"}], [{"role": "user", "text": "x 17 Horse"}]],
    }
    path = tmp_path / "turns.parquet"
    pq.write_table(pa.table(rows), path, compression=compression, row_group_size=1)
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    after = pq.ParquetFile(path)
    assert after.num_row_groups == 2
    assert after.schema_arrow.equals(pa.table(rows).schema)
    table = after.read().to_pydict()
    assert table["completion"] == ["__ _____", "05 owl"]
    assert table["token_ids"] == [None, [3, 4]]
    assert table["prompt"][1][0]["text"] == "x __ _____"


@pytest.mark.parametrize("fact", ["17", "x", "__ __", "one line\nand another"])
def test_what_would_be_found_everywhere_is_no_fact(tmp_path: Path, fact: str) -> None:
    assert cli.main(["forget", str(tmp_path), fact]) == cli.USAGE


@pytest.mark.parametrize("pattern", ["(", "x*"])
def test_a_pattern_must_be_one_and_match_something(pattern: str) -> None:
    with pytest.raises(UsageError):
        pattern_needle(pattern)


def test_a_mask_keeps_length_lines_and_marks() -> None:
    needle = fact_needle("17 café")
    text = "a <|UPSERT|>f|17|CAFÉ<|END|>\nb 17: café, 17 cat\n"
    masked = needle.mask(text)
    assert masked == "a <|UPSERT|>f|__|____<|END|>\nb __: ____, 17 cat\n"
    assert not needle.is_in(masked)
    assert needle.mask_source('{"x": "17 caf\\u00e9"}') == '{"x": "__ ____"}'
