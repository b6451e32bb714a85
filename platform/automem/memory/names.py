"""Which file names exist for an agent: relative, at most four deep, plain ASCII.

The one place that decides what a name may be. Strict on purpose: no spaces, no leading dot or dash,
nothing that looks like another letter. Refusals never repeat the name that was given, since it may
hold control characters or a path of the host.
"""

import re

from automem.errors import SandboxError

MAX_DEPTH = 4
"""Parts of a path, the file's own name included."""

MAX_PART_CHARS = 64
"""Characters of one part."""

RULE = (
    "a file name has letters, digits and . _ - only, "
    f"at most {MAX_PART_CHARS} of them, in at most {MAX_DEPTH - 1} folders, "
    "such as map.txt or notes/cave.txt"
)
"""What a name must be, in words for the model."""

_PART = rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{MAX_PART_CHARS - 1}}}"
_PART_PATTERN = re.compile(_PART)
_PATH_PATTERN = re.compile(rf"{_PART}(?:/{_PART}){{0,{MAX_DEPTH - 1}}}")


class OpRefused(SandboxError):
    """One operation cannot be carried out; the message says why and what to do instead.

    Other files keep working. The executor turns it into an error result."""


def is_valid_part(part: str) -> bool:
    """Whether `part` may be the name of a file or folder."""
    return _PART_PATTERN.fullmatch(part) is not None


def check_name(file: str) -> str:
    """`file`, or OpRefused where it is no name of a memory file."""
    if _PATH_PATTERN.fullmatch(file) is None:
        if not file.strip():
            raise OpRefused(f"no file name was given; {RULE}")
        raise OpRefused(f"that is not a file name; {RULE}")
    return file
