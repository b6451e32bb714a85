"""NetHack as text.

The world loads on first use; importing this package does not import the game.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.nethack.world import NetHackWorld

__all__ = ["NetHackWorld"]


def __getattr__(name: str) -> Any:
    if name == "NetHackWorld":
        from automem_envs.nethack.world import NetHackWorld

        return NetHackWorld
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
