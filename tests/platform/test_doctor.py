"""The doctor, on this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from automem import doctor
from automem.doctor import Finding, Status


def run_doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "automem.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def test_what_is_found_is_printed_with_what_to_do() -> None:
    done = run_doctor("--no-ray")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ Python" in done.stdout
    assert "as pinned" in done.stdout
    assert "Ready. Try: automem tour" in done.stdout


def test_json_holds_every_finding() -> None:
    done = run_doctor("--no-ray", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert {"Python", "system", "cores", "memory", "disk", "packages", "openat2"} <= set(findings)
    assert {"GPU", "vllm", "nle", "minihack", "wandb login", "bubblewrap"} <= set(findings)
    assert findings["Python"]["status"] == "ok"
    for finding in findings.values():
        assert finding["status"] == "ok" or finding["advice"], finding


def test_only_a_hard_failure_changes_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Finding("helm", Status.OPTIONAL, "not found", "apt-get install helm")
    broken = Finding("disk", Status.FAILED, "0.0 GB free", "free some")
    monkeypatch.setattr(doctor, "examine", lambda with_ray: iter([missing]))
    assert doctor.main([]) == 0
    monkeypatch.setattr(doctor, "examine", lambda with_ray: iter([missing, broken]))
    assert doctor.main([]) == 1
    output = capsys.readouterr().out
    assert "✗ disk" in output
    assert "→ free some" in output


def test_a_full_disk_is_a_hard_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": 10_000_000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    finding = next(f for f in doctor.examine(with_ray=False) if f.name == "disk")
    assert finding.status is Status.FAILED
    assert "run.dir=PATH" in finding.advice


@pytest.mark.slow
def test_ray_is_started_and_stopped_for_real() -> None:
    done = run_doctor("--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["Ray starts"]["status"] == "ok", findings["Ray starts"]


def test_a_missing_program_is_told_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = {finding.name: finding.found for finding in doctor._optional_programs()}
    assert found["bubblewrap"] == "not found (scaffold hooks)"
