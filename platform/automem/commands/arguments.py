"""What the commands' argument parsers share: help with examples, and errors as `UsageError`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from automem.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose help ends with examples and whose errors are ours."""

    def __init__(self, command: str, description: str, examples: Sequence[str]) -> None:
        lines = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            prog=f"automem {command}",
            description=description,
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def run_folder(text: str) -> Path:
    """An existing run's folder; UsageError says what was found instead."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise UsageError(f"no run at {text!r}: give the folder that the rollout named at its end")
    if not (path / "episodes").is_dir():
        raise UsageError(f"no run at {text!r}: this folder has no folder 'episodes' in it")
    return path.resolve()
