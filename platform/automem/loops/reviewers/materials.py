"""Scaffolds in hand: files by name as folders and schemas, away from where they are kept."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from automem.agent.scaffold import Scaffold, load_scaffold
from automem.agent.scaffold_files import write_files
from automem.agent.schema import ScaffoldSchema
from automem.errors import ScaffoldError, UsageError


@contextmanager
def as_folder(files: Mapping[str, str]) -> Iterator[Path]:
    """A folder with these files that goes when it is left."""
    with tempfile.TemporaryDirectory(prefix="automem-scaffold-") as place:
        folder = Path(place) / "scaffold"
        write_files(files, folder)
        yield folder


def loaded(files: Mapping[str, str]) -> Scaffold:
    """The scaffold; a ScaffoldError names its files and no folder of this machine."""
    with as_folder(files) as folder:
        try:
            return load_scaffold(folder)
        except (ScaffoldError, UsageError) as error:
            raise ScaffoldError(str(error).replace(f"{folder}/", "")) from error


def loaded_schema(files: Mapping[str, str]) -> ScaffoldSchema:
    """Its schema alone."""
    return loaded(files).schema
