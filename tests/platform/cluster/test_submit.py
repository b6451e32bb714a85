"""Jobs on a real head that asks for its token: submitted by Ray's command and by ours."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.heads import Head, started_head
from support.s3_server import s3_server
from support.toy_world import toy_spec

from automem import cli
from automem.commands.jobs import _fetch
from automem.commands.submit import STORAGE
from automem.ray_jobs import Job
from automem.rollout.run import run_rollout
from automem.rollout.stored_run import JOB_VARIABLE

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).resolve().parents[3]
SHORT = [
    "experiment=embedded",
    "rollout.episodes=2",
    "rollout.max_steps=4",
    "rollout.workers=1",
    "run.dir=runs/short",
]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def head(bucket: str) -> Iterator[Head]:
    with started_head() as found:
        yield found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository as a person has it, told apart from the installed one."""
    folder = tmp_path_factory.mktemp("checkout") / "automem"
    folder.mkdir()
    for name in ("platform", "envs", "learners", "serving", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    (folder / ".gitignore").write_text("runs/\n")
    cli = folder / "platform/automem/cli.py"
    cli.write_text(cli.read_text().replace("AutoMem: language models", "COPY: language models"))
    return folder


def call(head: Head, folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        env={**head.environment, **env},
        capture_output=True,
        text=True,
        timeout=800,
    )


def test_ray_job_submit_plays_the_embedded_experiment_with_the_jobs_own_code(
    head: Head, checkout: Path
) -> None:
    words = ["ray", "job", "submit", "--address", head.address, "--working-dir", "."]
    both = shlex.join(["automem", "rollout", *SHORT]) + " && automem help"
    done = call(head, checkout, *words, "--", "bash", "-c", both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2/2" in done.stdout
    assert "written: runs/short/summary.json" in done.stdout
    assert "COPY: language models" in done.stdout


def test_what_no_job_can_run_is_refused(head: Head, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--address", head.address, "help"]) == cli.USAGE
    assert cli.main(["submit", "rollout", "env=crafterr"]) == cli.USAGE
    assert "did you mean 'crafter'" in capsys.readouterr().err


def test_a_submission_without_the_token_is_refused(head: Head, checkout: Path) -> None:
    without = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": "", "HOME": "/nonexistent"}
    words = ["--address", head.address]
    raw = call(
        head, checkout, "ray", "job", "submit", *words, "--", "echo", "come", "in", **without
    )
    assert raw.returncode != 0
    assert "Missing authentication token" in raw.stdout + raw.stderr
    wrong = {"RAY_AUTH_TOKEN": "0" * 64, "RAY_AUTH_TOKEN_PATH": ""}
    ours = call(head, checkout, "automem", "submit", *words, "rollout", *SHORT, **wrong)
    assert ours.returncode == 2
    assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in ours.stderr


SHORT_LOOP = [
    *("proficiency", "experiment=embedded", "training_seeds=[0]", "rounds=1"),
    *("env.world.cards=8", "env.world.max_steps=12", "rollout.workers=1"),
    *("collection.mode=asynchronous", "collection.part=4"),
    "decider.recipes=[{data: {episodes: 4, selector: all, amount: 24}}]",
    *("learner.recipe.max_steps=3", "learner.recipe.lora.rank=4"),
    *("gate.pairs=4", "gate.race=[]", "gate.alpha=0.9", "gate.flips=99"),
    *("report.games=2", "~controls", "+controls={}", "~report.arms", "+report.arms={}"),
]
"""The embedded experiment in short form: collecting while it trains, decided by the gate."""


@pytest.mark.timeout(900)
def test_a_loop_as_a_job_is_followed_and_fetched_with_its_ledger_and_adapters(
    head: Head, checkout: Path, bucket: str, tmp_path: Path
) -> None:
    words = ["--address", head.address]
    loop = [*SHORT_LOOP, f"storage.url={bucket}/loops-of-jobs", "run.dir=runs/short-loop"]
    done = call(head, checkout, "automem", "submit", *words, "--id", "loop", *loop)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gathered 4 episodes" in done.stdout
    assert "automem jobs fetch loop" in done.stderr
    fetched = call(head, tmp_path, "automem", "jobs", *words, "fetch", "loop")
    assert fetched.returncode == 0, fetched.stderr
    folder = tmp_path / "runs" / "short-loop"
    results = json.loads((folder / "results.json").read_text())
    rounds = results["rounds"]["0"]
    assert [each["round"] for each in rounds] == [1]
    assert all(sum(each["staleness"]["turns_by_lag"].values()) > 0 for each in rounds)
    assert (folder / "seed-0" / "ledger.jsonl").is_file()
    weights = folder / "seed-0" / "round-1" / "specialist-1" / "adapter"
    assert (weights / "adapter_model.safetensors").is_file()
    collected = folder / "seed-0" / "collect" / "part-1"
    assert len(list(collected.glob("episodes/*/episode.json"))) == 4
    listed = call(head, tmp_path, "automem", "jobs", *words)
    assert "loop" in listed.stdout
    assert "succeeded" in listed.stdout


def test_a_jobs_runs_are_fetched_each_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    monkeypatch.setenv(JOB_VARIABLE, "one")
    spec = toy_spec(seeds=range(2), workers=0, storage_url=store)
    assert run_rollout(spec, tmp_path / "played").is_complete
    job = Job("one", "SUCCEEDED", "", 0, "", {STORAGE: store}, 0.0, 0.0)
    assert _fetch(job, tmp_path / "runs") == 0
    [run_dir] = (tmp_path / "runs").iterdir()
    assert len(list((run_dir / "episodes").glob("*/episode.json"))) == 2
    assert f"next:    automem report {run_dir}" in capsys.readouterr().out


def test_a_job_that_fails_fails_here_with_its_code(head: Head, checkout: Path) -> None:
    words = ["--address", head.address, "--id", "bad", "show", "nowhere", "nothing"]
    done = call(head, checkout, "automem", "submit", *words)
    assert done.returncode == 2, done.stderr
    assert "no run at 'nowhere'" in done.stdout


def test_a_job_that_is_not_awaited_can_be_stopped(head: Head, checkout: Path) -> None:
    words = ["--address", head.address]
    long = ["rollout", "engine=scripted", "engine.target.latency_s=5", "rollout.workers=0"]
    sent = call(head, checkout, "automem", "submit", *words, "--no-wait", "--id", "long", *long)
    assert sent.returncode == 0, sent.stderr
    stopped = call(head, checkout, "automem", "jobs", *words, "stop", "long")
    assert "asked to stop" in stopped.stdout
    followed = call(head, checkout, "automem", "jobs", *words, "follow", "long")
    assert followed.returncode != 0
    nearest = call(head, checkout, "automem", "jobs", *words, "log", "lang")
    assert "did you mean 'long'" in nearest.stderr


def test_nobody_at_the_address_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs", "--address", "http://127.0.0.1:9"]) == cli.USAGE
    said = capsys.readouterr().err
    assert "nobody answers at http://127.0.0.1:9" in said
    assert "Traceback" not in said
