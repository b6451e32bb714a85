"""Results that were torn, lost or belong to somebody else; what a power cut may leave."""

import os
import shutil
from pathlib import Path

import pytest
from support.drivers import assert_same_traces
from support.toy_world import toy_spec

from automem.errors import StoreError, UsageError
from automem.rollout.run import resume_run, run_rollout
from automem.trace.summary import write_summary
from automem.trace.tables import TABLES


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    assert run_rollout(toy_spec(seeds=[0, 1]), tmp_path / "undisturbed").is_complete
    return tmp_path / "undisturbed"


@pytest.mark.parametrize("torn", ["mark", "no tables", "torn table", "empty table"])
def test_defect_a_result_file_that_was_torn_does_not_count_as_done(
    torn: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    table = run / "tables/episodes/toy-0-0.parquet"
    if torn == "mark":
        (run / "episodes/toy-0-0/episode.json").write_bytes(b"")
    elif torn == "no tables":
        shutil.rmtree(run / "tables")
    else:
        table.write_bytes(table.read_bytes()[:200] if torn == "torn table" else b"")
        with pytest.raises(StoreError, match="automem resume"):
            write_summary(run)
    result = resume_run(run)
    assert result.is_complete
    assert result.stats.steps == 0  # nothing is played again
    assert_same_traces(run, undisturbed)


def test_what_cannot_be_made_again_is_said(undisturbed: Path) -> None:
    shutil.rmtree(undisturbed / "tables/steps")
    shutil.rmtree(undisturbed / "episodes/toy-1-0/journal")
    with pytest.raises(StoreError, match="toy-1-0: its tables are damaged or gone, and so is its"):
        resume_run(undisturbed)


@pytest.mark.parametrize("name", ["scaffold/mine/scaffold.yaml", "config.yaml"])
def test_a_folder_with_files_of_somebody_else_is_refused_and_left_as_it_is(
    name: str, tmp_path: Path
) -> None:
    mine = tmp_path / "conf" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("precious: 1\n")
    with pytest.raises(UsageError, match=r"choose another run\.dir"):
        run_rollout(toy_spec(), tmp_path / "conf")
    assert mine.read_text() == "precious: 1\n"
    assert not (tmp_path / "conf/run.json").exists()


def test_a_start_that_was_killed_before_its_plan_is_begun_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed / "scaffold", tmp_path / "run/scaffold")
    (tmp_path / "run/.scaffold.draft").mkdir()
    assert run_rollout(toy_spec(seeds=[0, 1]), tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", undisturbed)


def test_with_fsync_what_a_done_mark_stands_for_is_on_the_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append(str(path.relative_to(tmp_path)) if tmp_path in path.parents else str(path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    run_rollout(toy_spec(seeds=[0], fsync=True), tmp_path / "run")
    place = {path: number for number, path in reversed(list(enumerate(synced)))}
    [mark] = [path for path in place if path.startswith("run/episodes/toy-0-0/.episode.json")]
    folder = len(synced) - 1 - synced[::-1].index("run/episodes/toy-0-0")
    assert folder > place[mark]
    assert place["run/episodes/toy-0-0/journal"] < place["run/episodes/toy-0-0/journal/0001.jsonl"]
    for table in TABLES:
        assert place[f"run/tables/{table}/toy-0-0.parquet"] < place[mark]
        assert place[f"run/tables/{table}"] < place[mark]
    assert "run" in place  # the folder that names run.json

    synced.clear()
    run_rollout(toy_spec(seeds=[0]), tmp_path / "plain")
    assert synced == []
