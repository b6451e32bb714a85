"""Worlds made by others: any Gymnasium environment of text, any multi-turn `verifiers` environment.

The names load on first use, so that naming them in a config costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "GymnasiumWorld": "gymnasium_world",
    "RandomPlayer": "random_player",
    "VerifiersWorld": "verifiers_world",
}

__all__ = ["GymnasiumWorld", "RandomPlayer", "VerifiersWorld"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
