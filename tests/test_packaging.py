"""The repository as an installation: wheel, editable install, Makefile, configuration files."""

import importlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from automem.config import compose, conf_dir, groups

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("automem", "automem_envs", "automem_learners", "automem_serving")


def python(code: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-w", str(folder)]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-q"]
    subprocess.run(command, check=True, timeout=120)
    [path] = folder.glob("automem-*.whl")
    return path


def test_pythons_own_platform_module_is_found_in_the_repository_root() -> None:
    assert python("import platform; print(platform.system())", cwd=ROOT)


def test_the_editable_install_resolves_everywhere(tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(automem.__file__)"
    assert python(code, cwd=tmp_path) == str(ROOT / "platform" / "automem" / "__init__.py")


def test_the_wheel_holds_the_four_packages_and_the_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    shipped = [path for path in (ROOT / "conf").rglob("*") if path.is_file()]
    for path in shipped:
        assert f"automem/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "runs/", "platform/"))]


def test_the_wheel_composes_its_own_configuration(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        "from automem.config import compose, conf_dir; print(conf_dir());"
        "print(compose(overrides=['env=crafter', 'engine=scripted']).env.name)"
    )
    printed = python(code, cwd=tmp_path, PYTHONPATH=str(target)).splitlines()
    assert printed == [str(target / "automem" / "conf"), "crafter"]


NEEDED = {
    "engine=openai": ["engine.model=any"],
    "reviewer=openai": ["reviewer.model=any"],
    "reviewer=anthropic": ["reviewer.model=any"],
    "reviewer=command": ["reviewer.command=[any]"],
}
"""What a person has to give as well."""
ROOTS = {path.stem: path.read_text() for path in sorted(conf_dir().glob("*.yaml"))}
CHOICES = [(group, option) for group, options in groups().items() for option in options]


@pytest.mark.parametrize("name", list(ROOTS))
def test_every_root_composes(name: str) -> None:
    compose(name)


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_every_choice_of_every_group_composes(group: str, option: str) -> None:
    choice = f"{group}={option}"
    roots = [name for name, text in ROOTS.items() if re.search(rf"^  - {group}:", text, re.M)]
    if roots:
        compose(roots[0], [choice, *NEEDED.get(choice, [])])
    else:  # read by its own command, without a tree around it
        compose(f"{group}/{option}")


def targets() -> Iterator[tuple[str, str]]:
    for path in sorted(conf_dir().rglob("*.yaml")):
        for target in _targets_in(OmegaConf.to_container(OmegaConf.load(path))):
            yield str(path.relative_to(conf_dir())), target


def _targets_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets_in(value)


@pytest.mark.parametrize(("file", "target"), list(targets()))
def test_every_target_can_be_imported(file: str, target: str) -> None:
    module, _, name = target.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name)), file


def test_every_make_target_is_explained_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    explained = {line.split()[0] for line in done.stdout.splitlines()}
    assert set(phony.split()) <= explained


def test_the_license_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_ci_is_a_valid_script_that_may_be_run() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
