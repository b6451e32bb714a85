"""The optional packages that hold the games' rules, or a message that says how to get them."""

import os
from importlib import import_module
from typing import Any

from automem.errors import UsageError


def game_of(module: str, name: str) -> Any:
    """The class `name` of a module of `popgym` or `minigrid`. UsageError where that is missing."""
    return getattr(import_game(module), name)


def import_game(module: str) -> Any:
    """A module of `popgym` or `minigrid`. UsageError where that is missing."""
    # pygame, which minigrid imports to draw, greets on standard output and looks for a display.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UsageError(
            f"this world needs the package {package} ({error}): pip install 'automem[games]'"
        ) from error
