"""A review as folders: what a program or a person is handed, and what they leave.

    INPUT/INSTRUCTIONS.md   the method, the format, the case at hand
    INPUT/scaffold/         the scaffold to revise
    INPUT/failed/           a continuation: the revision that did not stand
    INPUT/traces/RUN/       tables of complete episodes, copies; `automem query` reads them
    OUTPUT/scaffold/        the revised scaffold, whole
    OUTPUT/reasons.md       a title on the first line, then why
    OUTPUT/knowledge.txt    added lines that are knowledge of the task, if there are any

Promise: what comes back is read with distrust: plain files of the known names and bounded sizes,
no links, nothing outside OUTPUT; everything else is a ScaffoldError. Call `read_output` when
whoever wrote it is gone.
"""

import os
import shutil
import stat
from pathlib import Path

import msgspec

from automem.agent.scaffold_files import read_files, write_files
from automem.errors import ScaffoldError
from automem.loops.reviewers.brief import FORMAT, METHOD, situation
from automem.loops.reviewers.interface import ReviewRequest
from automem.trace.query import run_names

REASONS = "reasons.md"
KNOWLEDGE = "knowledge.txt"
SCAFFOLD = "scaffold"
_MOST_BYTES = 64_000
_TABLES = "tables"

_HOW = """\
# What to do

Read the traces (`automem query traces/RUN "select * from episodes"`; `"select * from columns"`
explains every column), then write into the folder `{output}`:

- `scaffold/`: the revised scaffold, all of its files. A copy of the present one is there already.
- `reasons.md`: a title on the first line, then what in the episodes speaks for it.
- `knowledge.txt`: if you add lines that are knowledge of the task, those lines, word for word.
"""


class Output(msgspec.Struct, frozen=True):
    """What was left."""

    files: dict[str, str]
    reasons: str
    knowledge: tuple[str, ...]


def prepare(request: ReviewRequest, place: Path, with_traces: bool) -> tuple[Path, Path]:
    """Make INPUT and OUTPUT under `place`. An OUTPUT that is there already is left as it is."""
    given, output = place / "input", place / "output"
    shutil.rmtree(given, ignore_errors=True)
    given.mkdir(parents=True)
    write_files(request.files, given / SCAFFOLD)
    if request.failed is not None:
        write_files(request.failed.files, given / "failed")
    text = "\n".join([_HOW.format(output=output), "# The method\n", METHOD])
    text += "\n".join(["\n# The format\n", FORMAT, situation(request), ""])
    (given / "INSTRUCTIONS.md").write_text(text, encoding="utf-8")
    if with_traces:
        _copy_traces(request, given / "traces")
    output.mkdir(exist_ok=True)
    write_files(request.files, output / SCAFFOLD)
    return given, output


def _copy_traces(request: ReviewRequest, folder: Path) -> None:
    """Copies: whoever reads them may do with them what they like."""
    more = request.failed.runs if request.failed is not None else ()
    runs = list(dict.fromkeys([*request.runs, *more]))
    for name, run in run_names(runs).items():
        target = folder / name.strip("/").replace("/", "-") / _TABLES
        for table in sorted((run / _TABLES).glob("*/*.parquet")):
            (target / table.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(table, target / table.parent.name / table.name)


def read_output(output: Path) -> Output:
    """What is in OUTPUT; ScaffoldError says what cannot be used."""
    try:
        return _read_output(output)
    except OSError as error:
        raise ScaffoldError(f"{output.name} cannot be read: {error}") from error


def _read_output(output: Path) -> Output:
    for folder in (output, output / SCAFFOLD):
        if folder.is_symlink() or not folder.is_dir():
            raise ScaffoldError(f"{folder.name!r} is not a plain folder")
    files = read_files(output / SCAFFOLD)
    reasons = _text(output / REASONS)
    if not reasons.strip():
        raise ScaffoldError(f"{REASONS} is missing or empty: say why, a title on the first line")
    lines = [line.strip() for line in _text(output / KNOWLEDGE).splitlines()]
    return Output(files, reasons.strip(), tuple(line for line in lines if line))


def _text(path: Path) -> str:
    """A small plain file's text; empty where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ScaffoldError(f"{path.name} is not a plain file") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise ScaffoldError(f"{path.name} is not a plain file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ScaffoldError(f"{path.name} has more than {_MOST_BYTES} bytes; shorten it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ScaffoldError(f"{path.name} is not UTF-8 text") from error
