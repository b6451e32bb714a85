"""Multi-session tasks: generated ones, recorded ones from files, and a scripted player.

The names load on first use, so that naming them in a config costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "RecordedSessionsPlayer": "recorded_player",
    "RecordedSessionsWorld": "recorded",
    "SessionsWorld": "world",
    "SessionsPlayer": "player",
}

__all__ = ["RecordedSessionsPlayer", "RecordedSessionsWorld", "SessionsPlayer", "SessionsWorld"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
