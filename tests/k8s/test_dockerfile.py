"""The image cannot be built in tests: its file is read instead, as hadolint would, and everything
that it copies and runs is looked for."""

import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "k8s" / "Dockerfile"
REQUIREMENTS = ROOT / "k8s" / "requirements"
SOURCES = ("health.py", "automem-run")
EXTRAS = ["games", "reviewers", "s3", "gcs"]


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its words; continued lines are one."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in pairs]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Every stage: what it stands on, and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            assert name, f"a stage without a name: {rest}"
            found[name] = (base, [])
        elif name:
            found[name][1].append((word, rest))
    return found


def lineage(stage: str) -> list[tuple[str, str]]:
    """A stage's instructions after those of what it stands on."""
    base, own = stages()[stage]
    return [*(lineage(base) if base in stages() else []), *own]


def copied_from_here() -> Iterator[str]:
    for word, rest in instructions():
        if word == "COPY" and "--from=" not in rest:
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            yield from sources


# What hadolint looks for


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_is_nobodys_root_and_says_how_it_is(target: str) -> None:
    steps = lineage(target)
    users = [rest for word, rest in steps if word == "USER"]
    assert users[-1] == "10001:10001"
    assert [rest for word, rest in steps if word == "WORKDIR"][-1].startswith("/")
    [health] = [rest for word, rest in steps if word == "HEALTHCHECK"]
    assert 'CMD ["automem-health"]' in health
    assert [rest for word, rest in steps if word == "CMD"][-1].startswith("[")
    assert not any(word == "ADD" for word, _ in steps)


def test_what_is_only_needed_to_install_is_not_shipped() -> None:
    for target in ("cpu", "gpu"):
        shipped = " ".join(rest for word, rest in lineage(target) if word == "RUN")
        assert "build-essential" not in shipped
        assert "pip install" not in shipped


def test_packages_are_fetched_fresh_and_their_lists_left_behind() -> None:
    for word, rest in instructions():
        if word == "RUN" and "apt-get install" in rest:
            assert rest.startswith("apt-get update")
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest


def test_no_secret_and_no_address_of_an_index_is_in_the_file() -> None:
    text = DOCKERFILE.read_text()
    assert not re.search(r"https?://", text)
    for word, rest in instructions():
        if word in ("ARG", "ENV"):
            assert not re.search(r"(KEY|SECRET|PASSWORD)=", rest), rest


def test_the_base_has_a_fixed_version() -> None:
    [first] = [rest for word, rest in instructions() if word == "ARG" and "PYTHON_IMAGE" in rest]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-[a-z]+", first)
    for base, _ in stages().values():
        assert base == "${PYTHON_IMAGE}" or base in stages()


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        ["hadolint", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


# What it copies and runs


def test_everything_that_is_copied_is_there() -> None:
    sources = list(copied_from_here())
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists(), source
    names = set(stages())
    for word, rest in instructions():
        if word == "COPY" and (match := re.search(r"--from=(\S+)", rest)):
            assert match[1] in names, rest


def test_the_build_context_has_what_is_copied_and_little_else() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*", "everything is left out but what is named"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    for source in copied_from_here():
        assert any(source == path or fnmatch(source, f"{path}/*") for path in kept), source
    for path in kept:
        assert any(source == path or source.startswith(f"{path}/") for source in copied_from_here())


def test_the_wheel_is_built_from_all_that_the_project_ships() -> None:
    _, steps = stages()["wheel"]
    copied = {part for word, rest in steps if word == "COPY" for part in rest.split()[:-1]}
    project = (ROOT / "pyproject.toml").read_text()
    shipped = set(re.findall(r'^  "(\w+)/automem\w*",', project, re.MULTILINE)) | {"conf"}
    assert shipped <= copied
    assert {"pyproject.toml", "README.md", "LICENSE"} <= copied


def test_a_wheel_with_all_four_packages_comes_of_what_is_copied(tmp_path: Path) -> None:
    _, steps = stages()["wheel"]
    source = tmp_path / "src"
    source.mkdir()
    for word, rest in steps:
        if word == "COPY":
            for part in rest.split()[:-1]:
                if (ROOT / part).is_dir():
                    caches = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / part, source / part, ignore=caches)
                else:
                    shutil.copy(ROOT / part, source)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "-q"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-w", str(tmp_path)]
    subprocess.run(command, check=True, timeout=240)
    [wheel] = tmp_path.glob("automem-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("automem", "automem_envs", "automem_learners", "automem_serving"):
        assert f"{package}/__init__.py" in names
    assert "automem/conf/serve.yaml" in names
    assert "automem_serving/cluster.py" in names


def test_what_builds_the_wheel_is_pinned_with_all_that_it_needs() -> None:
    [step] = [rest for word, rest in stages()["wheel"][1] if word == "RUN"]
    install, build = step.split("&&")
    assert "--no-deps -r /requirements/build.txt" in install
    assert "pip wheel" in build
    assert "--no-build-isolation" in build, "pip would fetch the newest backend"
    pins = {}
    for line in (REQUIREMENTS / "build.txt").read_text().splitlines():
        pin = Requirement(line)
        pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [Requirement(line) for line in project["build-system"]["requires"]]
    assert needed
    while needed:
        one = needed.pop()
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            name = canonicalize_name(one.name)
            assert name in pins, f"{one} is not in build.txt"
            assert one.specifier.contains(pins[name]), f"{one}, pinned {pins[name]}"
            needed += [Requirement(line) for line in requires(name) or []]


def test_the_links_name_commands_that_are_installed() -> None:
    links = re.findall(r"/opt/automem/bin/(\w+)", " ".join(rest for _, rest in lineage("cpu")))
    folder = Path(sys.executable).parent
    assert {"ray", "automem"} <= set(links)
    for name in set(links):
        assert (folder / name).exists(), name


def test_the_requirement_files_that_are_installed_are_there() -> None:
    named = re.findall(r"-r /requirements/([\w.-]+)", DOCKERFILE.read_text())
    assert set(named) == {"build.txt", "cpu.txt", "gpu.txt", "nethack.txt"}
    for name in named:
        assert (REQUIREMENTS / name).is_file()


@pytest.mark.parametrize("name", ["build.txt", "cpu.txt", "gpu.txt", "nethack.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    lines = [line for line in (REQUIREMENTS / name).read_text().splitlines() if line[:1] not in "#"]
    assert lines
    for line in lines:
        [pin] = Requirement(line).specifier
        assert pin.operator == "==", line


@pytest.mark.parametrize(("name", "extras"), [("cpu.txt", EXTRAS), ("gpu.txt", [*EXTRAS, "vllm"])])
def test_the_pins_are_within_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    pins = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        if line[:1] not in "#":
            pin = Requirement(line)
            pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    for line in wanted:
        asked = Requirement(line)
        key = canonicalize_name(asked.name)
        if key == "torch" and name == "cpu.txt":
            assert str(asked) in DOCKERFILE.read_text(), "the CPU image takes torch by itself"
            continue
        assert key in pins, f"{line} is not in {name}: make it anew (k8s/requirements/README.md)"
        assert asked.specifier.contains(pins[key], prereleases=True), f"{line}, pinned {pins[key]}"


def test_ray_has_one_version_everywhere() -> None:
    values = yaml.safe_load((ROOT / "k8s/chart/automem/values.yaml").read_text())
    version = values["ray"]["version"]
    for name in ("cpu.txt", "gpu.txt"):
        assert f"ray=={version}\n" in re.sub(r"\[.*\]", "", (REQUIREMENTS / name).read_text())


def test_chart_and_project_have_one_version() -> None:
    chart = yaml.safe_load((ROOT / "k8s/chart/automem/Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", SOURCES)
def test_its_programs_can_be_started(name: str) -> None:
    path = ROOT / "k8s" / name
    assert path.read_text().startswith("#!/usr/bin/env ")
    assert path.stat().st_mode & 0o111


# Its programs


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 503)
        self.end_headers()
        self.wfile.write(b"success")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def health(*urls: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "k8s" / "health.py"), *urls]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_health_is_good_when_every_address_is(address: str) -> None:
    assert health(f"{address}/good", f"{address}/good").returncode == 0


def test_health_is_bad_when_one_address_is_and_says_which(address: str) -> None:
    done = health(f"{address}/good", f"{address}/bad")
    assert done.returncode == 1
    assert "/bad" in done.stderr
    assert health("http://127.0.0.1:9/").returncode == 1
