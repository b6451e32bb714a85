"""What is masked is text; names, tags, ids and keys stay, and what reads them goes on."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.drivers import end_of, start_driver
from support.toy_world import toy_spec

from automem import cli
from automem.audit.journals import JournalRedactor
from automem.audit.needle import fact_needle
from automem.audit.texts import EVENTS, ROWS, Masker
from automem.errors import UsageError
from automem.memory.ops import OpResult, OpStatus, Upsert
from automem.rollout.chain import encode
from automem.rollout.recovery import recover
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import read_run
from automem.trace.events import Attempt, EpisodeStarted, Event, Observed, OpDone, Outcome
from automem.trace.summary import write_summary
from automem.trace.tables import TABLES

WORDS = (
    "turn", "search", "seed", "observation", "status", "model", "progression", "completion",
    "empty", "episodes", "scaffold", "kind", "toy-1-0", "worker", "ScriptedEngine",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    assert run_rollout(toy_spec(seeds=[1]), place).is_complete
    write_summary(place)
    (place / "config.yaml").write_text("scaffold: v0 # of the scaffold\nsay: a scaffold or two\n")
    return place


def keys_of(value: Any) -> set[str]:
    """Every key below, by name."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_program_is_masked_where_it_is_text_and_the_run_goes_on(
    finished: Path, tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
    [episode] = (run_dir / "episodes").iterdir()
    marks = [run_dir / "run.json", run_dir / "summary.json", episode / "episode.json"]
    before = [keys_of(json.loads(path.read_text())) for path in marks]
    assert cli.main(["forget", str(run_dir), word]) == cli.FAILED
    assert "they stay" in capsys.readouterr().out
    assert [keys_of(json.loads(path.read_text())) for path in marks] == before
    assert read_run(run_dir).spec == msgspec.structs.replace(
        read_run(finished).spec, scaffold=str(run_dir / "scaffold")
    )
    recover(episode)
    assert resume_run(run_dir).is_complete
    for table in TABLES:
        old, new = (
            pq.read_table(place / "tables" / table / "toy-1-0.parquet")
            for place in (finished, run_dir)
        )
        assert new.schema == old.schema
        names = {"status", "op", "routine", "role", "stop", "episode"}
        for column in names & set(old.schema.names):
            assert new[column] == old[column]


def test_settings_lose_their_prose_and_keep_their_names(finished: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
    cli.main(["forget", str(run_dir), "scaffold"])
    said = (run_dir / "config.yaml").read_text()
    assert said == "scaffold: v0 # of the ________\nsay: a ________ or two\n"
    cli.main(["forget", str(run_dir), "observation"])
    assert "{{ observation }}" in (run_dir / "scaffold" / "plan.j2").read_text()
    assert "# observation" not in (run_dir / "scaffold" / "plan.j2").read_text()


def test_a_record_that_could_not_be_read_back_is_refused_before_anything_is_staged(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENTS, "turn", {"routine": "text"})
    [episode] = (finished / "episodes").iterdir()
    redactor = JournalRedactor(episode, fact_needle("plan"), {})
    assert redactor.is_touched()
    with pytest.raises(UsageError, match=r"record \d+ would not be understood"):
        redactor.redact("r", 0.0)


def test_a_name_of_a_file_in_memory_is_text() -> None:
    masker = Masker(fact_needle("horse"))
    op = {"op": "READ", "file": "horse.txt"}
    event = {"kind": "op", "op": op, "result": {"text": "a horse", "lines": {"horse.txt": [1]}}}
    new = masker.event(event)
    assert new["op"]["file"] == "_____.txt"
    assert new["result"] == {"text": "a _____", "lines": {"_____.txt": [1]}}
    assert masker.kept == 0


def test_tags_of_operations_and_names_of_arguments_stay() -> None:
    masker = Masker(fact_needle("tail"))
    call = {"id": "1", "name": "TAIL", "arguments": '{"tail": "the tail"}'}
    said = "the tail: <|TAIL|>tail.txt|2<|END|>, < tail >"
    event = {"kind": "turn", "completion": said, "tool_calls": [call]}
    new = masker.event(event)
    assert new["completion"] == "the ____: <|TAIL|>____.txt|2<|END|>, < tail >"
    assert new["tool_calls"] == [{**call, "arguments": '{"tail": "the ____"}'}]


def test_a_step_under_way_goes_on_after_a_word_of_its_tags_was_forgotten(tmp_path: Path) -> None:
    code, output = end_of(
        start_driver(tmp_path / "run", {"seeds": [1]}, AUTOMEM_CRASH="event.turn:14")
    )
    assert code == -signal.SIGKILL, output
    assert cli.main(["forget", str(tmp_path / "run"), "tail"]) == cli.FAILED
    assert resume_run(tmp_path / "run").is_complete


def test_keys_and_names_of_json_stay_and_are_counted() -> None:
    masker = Masker(fact_needle("17 horse"))
    value = {"17 horse": 1, "name": "17-horse", "target": {"a": "17-horse", "b": "the 17 horse"}}
    assert masker.json(value, Path("x.json")) == {
        "17 horse": 1,
        "name": "17-horse",
        "target": {"a": "17-horse", "b": "the __ _____"},
    }
    assert masker.kept == 3


def test_every_kind_of_record_and_every_table_has_its_texts_listed() -> None:
    kinds = {each.__struct_config__.tag: each for each in Event.__args__}
    for kind, shape in EVENTS.items():
        assert set(shape) <= set(kinds[kind].__struct_fields__)
    assert set(kinds) - set(EVENTS) == {"attempt", "gate"}
    for table, shape in ROWS.items():
        assert set(shape) <= {column.name for column in TABLES[table]}
    assert set(ROWS) == set(TABLES)


def test_a_fact_that_an_upserts_key_and_text_make_together_leaves_journal_and_table(
    tmp_path: Path,
) -> None:
    events: list[Event] = [
        Attempt(1, 0, 0, "host", 1, 0.0),
        EpisodeStarted(1, "e", "w", 1, 0, 0, 5, "p", "s", "play", "wait"),
        Observed(0, "a card", True, Outcome(0.0)),
        OpDone(0, 0, 0, Upsert("cards.txt", "17", "horse"), OpResult(OpStatus.OK, "done")),
    ]
    (tmp_path / "e" / "journal").mkdir(parents=True)
    journal = tmp_path / "e" / "journal" / "0001.jsonl"
    journal.write_bytes(b"".join(map(encode, events)))
    table = tmp_path / "tables" / "ops" / "e.parquet"
    table.parent.mkdir(parents=True)
    row = {"episode": "e", "step": 0, "op": "UPSERT", "argument": "17", "text": "horse"}
    pq.write_table(pa.Table.from_pylist([row]), table)
    assert cli.main(["forget", str(tmp_path), "17 horse"]) == 0
    assert '"key":"__","text":"_____"' in journal.read_text()
    [new] = pq.read_table(table).to_pylist()
    assert (new["argument"], new["text"]) == ("__", "_____")
