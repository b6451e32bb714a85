"""docs/scaffolds.md shows what loads."""

import re
import shutil
from pathlib import Path

import pytest

from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path

PAGE = Path(__file__).parents[3] / "docs" / "scaffolds.md"


@pytest.fixture
def blocks() -> dict[str, str]:
    if not PAGE.exists():
        pytest.skip("the documentation is not part of this installation")
    return dict(re.findall(r"```(yaml|python)\n(.*?)```", PAGE.read_text(), re.DOTALL))


def test_the_documented_scaffold_loads(blocks: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(scaffold_path("v0"), tmp_path / "scaffold")
    (folder / "scaffold.yaml").write_text(blocks["yaml"])
    (folder / "hooks.py").write_text(blocks["python"])
    schema = load_scaffold(folder).schema
    assert {file.kind.value for file in schema.files} == {"keyed", "checklist", "log", "text"}
