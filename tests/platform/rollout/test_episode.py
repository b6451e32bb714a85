"""One durable episode: whose fault a failure is, and what a resumed play looks like."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.toy_world import ToyPlayer, toy_spec

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError, EngineRequestError, PlayerError
from automem.rollout import lease
from automem.rollout.chain import journal_path
from automem.rollout.episode import EpisodeResult, EpisodeStatus, play_episode
from automem.rollout.journal import read_events
from automem.rollout.meter import EpisodeMeter, WorkerMeter
from automem.rollout.parts import build_parts
from automem.rollout.spec import Deadlines, EpisodeKey, RolloutSpec
from automem.trace.compare import first_difference
from automem.trace.events import Attempt, Ended, Event, Failed, Observed, StopReason
from automem.trace.summary import finished_episodes

QUICK = Deadlines(patience_s=3.0)


Interference = Callable[[str], float]
"""Gets a request's id; raises, or says how many seconds the call takes."""


class Interfering(ScriptedEngine):
    """The scripted engine, with something in the way of some calls."""

    def __init__(self, interfere: Interference) -> None:
        super().__init__(ToyPlayer())
        self._interfere = interfere

    async def generate(self, request: GenerateRequest) -> Completion:
        await asyncio.sleep(self._interfere(request.id))
        return await super().generate(request)


def failing(failures: dict[str, list[Exception]]) -> Interference:
    """Each of these once, at the request named."""

    def interfere(request: str) -> float:
        if waiting := failures.get(request):
            raise waiting.pop(0)
        return 0.0

    return interfere


def play(
    run_dir: Path,
    spec: RolloutSpec,
    failures: dict[str, list[Exception]] | None = None,
    interfere: Interference | None = None,
) -> EpisodeResult:
    """Play the spec's first episode in this process."""
    engine = Interfering(interfere or failing(failures or {}))

    async def run() -> EpisodeResult:
        parts = await build_parts(spec, {"base": engine})
        meter = EpisodeMeter(WorkerMeter())
        return await play_episode(parts, spec.episodes[0], run_dir, meter)

    return asyncio.run(run())


def events_of(run_dir: Path, episode: str = "toy-0-0") -> list[Event]:
    return read_events(run_dir / "episodes" / episode)


def failures_in(run_dir: Path) -> list[Failed]:
    return [event for event in events_of(run_dir) if isinstance(event, Failed)]


def assert_same_play(run_dir: Path, other: Path) -> None:
    assert first_difference(events_of(run_dir), events_of(other)) == ""
    memory = [
        {path.name: path.read_text() for path in (d / "episodes/toy-0-0/memory").iterdir()}
        for d in (run_dir, other)
    ]
    assert memory[0] == memory[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed")
    assert play(run_dir, toy_spec()).status is EpisodeStatus.FINISHED
    return run_dir


def test_an_episode_is_played_to_its_cap_and_finished(undisturbed: Path) -> None:
    *_, last = events_of(undisturbed)
    assert isinstance(last, Ended)
    assert (last.stop, last.steps) == (StopReason.CAP, 12)
    assert finished_episodes(undisturbed) == ["toy-0-0"]
    folder = undisturbed / "episodes" / "toy-0-0"
    assert sorted(path.name for path in folder.iterdir()) == [
        "episode.json",
        "journal",
        "lease.json",
        "lease.lock",
        "memory",
    ]


def test_the_terminal_step_gets_a_log(undisturbed: Path) -> None:
    """A defect of other platforms: the terminal step never logged."""
    notes = (undisturbed / "episodes/toy-0-0/memory/actions.txt").read_text().splitlines()
    assert notes[-1].startswith("12 ")


def test_playing_a_finished_episode_again_changes_nothing(undisturbed: Path) -> None:
    before = events_of(undisturbed)
    result = play(undisturbed, toy_spec())
    assert result.status is EpisodeStatus.FINISHED
    assert events_of(undisturbed) == before


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1))
def test_a_journal_cut_at_any_byte_goes_on_to_the_same_trace(
    undisturbed: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    whole = journal_path(undisturbed / "episodes/toy-0-0", 1).read_bytes()
    run_dir = tmp_path_factory.mktemp("cut")
    path = journal_path(run_dir / "episodes/toy-0-0", 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(whole[: int(share * len(whole))])
    assert play(run_dir, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(run_dir, undisturbed)


def test_a_chain_of_many_deaths_goes_on_to_the_same_trace(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "episodes/toy-0-0"
    for epoch in range(1, 8):
        spec = toy_spec(world_args={"raise_step": epoch}, deadlines=Deadlines(world_attempts=1))
        assert play(tmp_path, spec).status is EpisodeStatus.PENDING
        path = journal_path(folder, epoch)
        path.write_bytes(path.read_bytes()[:-50])
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)
    assert sum(isinstance(event, Attempt) for event in events_of(tmp_path)) == 8


def test_a_world_that_breaks_once_is_replayed_in_a_fresh_one(
    undisturbed: Path, tmp_path: Path
) -> None:
    broke = tmp_path / "broke"
    spec = toy_spec(world_args={"raise_step": 6, "raise_file": str(broke)})
    assert play(tmp_path, spec).status is EpisodeStatus.FINISHED
    assert broke.exists()
    [failure] = failures_in(tmp_path)
    assert (failure.boundary, failure.step, failure.is_infrastructure) == ("world", 6, True)
    assert_same_play(tmp_path, undisturbed)


def test_a_world_that_stays_broken_leaves_the_episode_pending(tmp_path: Path) -> None:
    result = play(tmp_path, toy_spec(world_args={"raise_step": 6}))
    assert result.status is EpisodeStatus.PENDING
    assert "the lamp broke" in result.reason
    assert len(failures_in(tmp_path)) == 3
    assert not finished_episodes(tmp_path)


def test_a_world_that_does_not_replay_is_a_world_error(tmp_path: Path) -> None:
    args = {"drift_file": str(tmp_path / "drift"), "raise_step": 6}
    result = play(tmp_path, toy_spec(world_args=args))
    assert result.status is EpisodeStatus.PENDING
    assert "not deterministic" in result.reason
    assert "step 0 differs" in result.reason


def test_an_engine_that_is_away_for_a_while_costs_nothing_but_time(
    undisturbed: Path, tmp_path: Path
) -> None:
    """A defect of other platforms: an API failure turning into a game action."""
    failures: dict[str, list[Exception]] = {
        "toy-0-0/4/1": [EngineError("connection refused")],
        "toy-0-0/9/2": [EngineError("429"), EngineError("500")],
    }
    assert play(tmp_path, toy_spec(), failures).status is EpisodeStatus.FINISHED
    assert [failure.boundary for failure in failures_in(tmp_path)] == ["engine"] * 3
    assert_same_play(tmp_path, undisturbed)


def test_an_engine_that_is_gone_leaves_the_episode_pending(
    undisturbed: Path, tmp_path: Path
) -> None:
    gone: list[Exception] = [EngineError("connection refused")] * 50
    result = play(tmp_path, toy_spec(deadlines=QUICK), {"toy-0-0/4/1": gone})
    assert result.status is EpisodeStatus.PENDING
    assert result.steps == 4
    assert "connection refused" in result.reason
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)


def test_a_request_that_the_engine_rejects_is_not_repeated(tmp_path: Path) -> None:
    refused: list[Exception] = [EngineRequestError("no such adapter")] * 9
    result = play(tmp_path, toy_spec(), {"toy-0-0/0/0": refused})
    assert result.status is EpisodeStatus.PENDING
    assert len(refused) == 8


def test_a_defect_is_no_score(tmp_path: Path) -> None:
    defects: list[Exception] = [KeyError("oops")] * 9
    result = play(tmp_path, toy_spec(), {"toy-0-0/2/0": defects})
    assert result.status is EpisodeStatus.PENDING
    assert result.reason.startswith("platform: Traceback")
    assert len(defects) == 7


def test_a_step_that_takes_too_long_is_broken_off(undisturbed: Path, tmp_path: Path) -> None:
    slow = toy_spec(deadlines=Deadlines(step_s=0.2, patience_s=1.0))

    def interfere(request: str) -> float:
        return 60.0 if request == "toy-0-0/3/0" else 0.0

    result = play(tmp_path, slow, interfere=interfere)
    assert result.status is EpisodeStatus.PENDING
    assert "step 3 took more than 0.2 s" in result.reason
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)


def test_a_player_that_fails_ends_the_episode_with_what_it_reached(tmp_path: Path) -> None:
    """A defect of other platforms: failed episodes dropped from the mean."""
    fails: list[Exception] = [PlayerError("the hook divided by zero")]
    result = play(tmp_path, toy_spec(), {"toy-0-0/7/0": fails})
    assert result.status is EpisodeStatus.FINISHED
    assert result.is_player_failure
    *_, failed, ended = events_of(tmp_path)
    assert isinstance(failed, Failed)
    assert not failed.is_infrastructure
    assert isinstance(ended, Ended)
    reached = [e.outcome.progression for e in events_of(tmp_path) if isinstance(e, Observed)][-1]
    assert (ended.stop, ended.steps) == (StopReason.PLAYER_FAILED, 7)
    assert ended.progression == result.progression == reached > 0
    assert finished_episodes(tmp_path) == ["toy-0-0"]


def test_a_player_failure_whose_end_was_not_written_stays_one(tmp_path: Path) -> None:
    fails: list[Exception] = [PlayerError("the hook divided by zero")]
    before = play(tmp_path, toy_spec(), {"toy-0-0/7/0": fails})
    folder = tmp_path / "episodes/toy-0-0"
    path = journal_path(folder, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (folder / "episode.json").unlink()
    assert play(tmp_path, toy_spec()) == before


def test_a_scaffold_that_does_not_load_scores_zero(tmp_path: Path) -> None:
    broken = tmp_path / "scaffold"
    broken.mkdir()
    (broken / "scaffold.yaml").write_text("name: broken\nfiles: 7\n")
    result = play(tmp_path, toy_spec(scaffold=str(broken)))
    assert (result.status, result.progression) == (EpisodeStatus.FINISHED, 0.0)
    assert result.is_player_failure


def test_a_changed_scaffold_is_refused_on_resume(tmp_path: Path) -> None:
    from automem.config import conf_dir

    play(tmp_path, toy_spec(world_args={"raise_step": 6}))
    other = toy_spec(scaffold=str(conf_dir() / "scaffold" / "embedded"))
    result = play(tmp_path, other)
    assert result.status is EpisodeStatus.PENDING
    assert "scaffold has changed" in result.reason


def test_a_damaged_journal_leaves_the_episode_pending_and_says_where(
    undisturbed: Path, tmp_path: Path
) -> None:
    path = journal_path(tmp_path / "episodes/toy-0-0", 1)
    path.parent.mkdir(parents=True)
    whole = journal_path(undisturbed / "episodes/toy-0-0", 1).read_bytes()
    path.write_bytes(whole.replace(b'"step":3', b'"step":4', 1))
    result = play(tmp_path, toy_spec())
    assert result.status is EpisodeStatus.PENDING
    assert "is damaged" in result.reason


def test_an_edit_that_breaks_the_hash_chain_is_found(undisturbed: Path, tmp_path: Path) -> None:
    from automem.rollout.chain import decode
    from automem.rollout.journal import Journal
    from automem.trace.events import OpDone

    folder = tmp_path / "episodes/toy-0-0"
    journal = Journal(folder, lease.acquire(folder))
    is_forged = False
    for line in journal_path(undisturbed / "episodes/toy-0-0", 1).read_bytes().splitlines(True)[1:]:
        event = decode(line)
        if isinstance(event, OpDone) and event.edit is not None and not is_forged:
            edit = msgspec.structs.replace(event.edit, inserted="forged\n")
            event, is_forged = msgspec.structs.replace(event, edit=edit), True
        journal.append(event)
    journal.close()
    (folder / "episode.json").unlink(missing_ok=True)
    result = play(tmp_path, toy_spec())
    assert result.status is EpisodeStatus.PENDING
    assert "chain of edits breaks in step 1" in result.reason


def test_a_newer_attempt_stops_the_older_one_without_a_trace(
    undisturbed: Path, tmp_path: Path
) -> None:
    def usurp(request: str) -> float:
        if request == "toy-0-0/5/0":
            lease.acquire(tmp_path / "episodes/toy-0-0")
        return 0.0

    assert play(tmp_path, toy_spec(), interfere=usurp).status is EpisodeStatus.LOST
    assert not failures_in(tmp_path)
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)


def test_an_attempt_that_breaks_after_it_was_overtaken_does_not_take_the_episode_back(
    tmp_path: Path,
) -> None:
    def usurp_and_break(request: str) -> float:
        if request == "toy-0-0/5/0":
            lease.acquire(tmp_path / "episodes/toy-0-0")
            raise EngineError("and the folder is gone")
        return 0.0

    result = play(tmp_path, toy_spec(), interfere=usurp_and_break)
    assert result.status is EpisodeStatus.LOST
    assert "lost its lease to epoch 2" in result.reason


def test_a_full_disk_is_waited_out(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing torn counts as done; the disk frees up later."""
    import errno
    import os

    real_write, refusals = os.write, [2]

    def write(file: int, data: Any) -> int:
        if b'"kind":"commit","step":5' in bytes(data)[:40] and refusals[0]:
            refusals[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data)

    monkeypatch.setattr(os, "write", write)
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)


def test_a_reused_worker_does_not_touch_another_episode(tmp_path: Path) -> None:
    """A defect of other platforms: a reused worker wiping the previous episode's memory."""
    first = toy_spec()
    play(tmp_path, first)
    notes = (tmp_path / "episodes/toy-0-0/memory/actions.txt").read_text()
    play(tmp_path, toy_spec(seeds=[1]))
    assert (tmp_path / "episodes/toy-0-0/memory/actions.txt").read_text() == notes


def test_a_new_attempt_inherits_no_files_of_a_crashed_one(
    undisturbed: Path, tmp_path: Path
) -> None:
    """A defect of other platforms: a rerun inheriting a crashed run's files."""
    play(tmp_path, toy_spec(world_args={"raise_step": 6}, deadlines=Deadlines(world_attempts=1)))
    [memory] = (tmp_path / "episodes/toy-0-0").glob("memory-*")
    (memory / "actions.txt").write_text("never journalled\n")
    (memory / "stray.txt").write_text("left behind\n")
    assert play(tmp_path, toy_spec()).status is EpisodeStatus.FINISHED
    assert_same_play(tmp_path, undisturbed)


def test_replicates_of_a_seed_are_episodes_of_their_own(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(toy_spec(), episodes=(EpisodeKey(0, 1),))
    assert play(tmp_path, spec).episode == "toy-0-1"
