"""MiniHack's eight published tasks as text.

The world loads on first use; importing this package does not import the game.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.minihack.world import MiniHackWorld

__all__ = ["MiniHackWorld"]


def __getattr__(name: str) -> Any:
    if name == "MiniHackWorld":
        from automem_envs.minihack.world import MiniHackWorld

        return MiniHackWorld
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
