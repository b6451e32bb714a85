"""Boxoban levels from files of the original collection, where a user has them.

A file holds levels one after the other: a line `; number`, ten lines, an empty line. A folder is
searched for `<difficulty>/train/`, then `<difficulty>/` (as in the collection: `hard/000.txt`,
`medium/train/000.txt`; `medium/valid/` is left out, as in minihack), else taken as it is. Which
level a seed gets is a function of the seed and of the files' sorted names.
"""

from functools import lru_cache
from pathlib import Path

from automem.errors import UsageError
from automem.seeds import derive
from automem_envs.minihack.sokoban import Level, read_level

_HOW = "it should hold text files of the Boxoban collection (`; 0`, ten lines, an empty line, ...)"


def find_files(path: Path, difficulty: str) -> list[Path]:
    """The level files for a difficulty. UsageError where there are none."""
    if path.is_file():
        return [path]
    named = (path / difficulty / "train", path / difficulty)
    folder = next((folder for folder in named if folder.is_dir()), path)
    found = sorted(folder.rglob("*.txt"))
    if not found:
        raise UsageError(f"no level files in {folder}: {_HOW}")
    return found


def read_levels(path: Path) -> list[Level]:
    """Every level of a file. UsageError, naming file and level, where one is malformed."""
    about = path.stat()
    return _read_levels(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _read_levels(path: Path, written_ns: int, size: int) -> list[Level]:
    """A file as it was written then: of the collection, a thousand levels, read at every reset."""
    blocks: list[tuple[str, list[str]]] = []
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(";"):
            blocks.append((line[1:].strip(), []))
        elif line.strip():
            if not blocks:
                raise UsageError(f"{path}: expected a line `; number` first, got {line[:40]!r}")
            blocks[-1][1].append(line)
    if not blocks:
        raise UsageError(f"{path} holds no level: {_HOW}")
    levels = []
    for name, lines in blocks:
        try:
            levels.append(read_level(lines))
        except UsageError as error:
            raise UsageError(f"{path}, level {name}: {error}") from error
    return levels


def level_from_files(path: Path, difficulty: str, seed: int) -> Level:
    """The level of `seed`."""
    files = find_files(path, difficulty)
    levels = read_levels(files[derive("boxoban file", seed) % len(files)])
    return levels[derive("boxoban level", seed) % len(levels)]
