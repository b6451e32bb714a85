"""MiniHack's eight published tasks as text: the world and a scripted player for it.

Both names load on first use; importing this package does not import the game.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.minihack.player import MiniHackPlayer
    from automem_envs.minihack.world import MiniHackWorld

__all__ = ["MiniHackPlayer", "MiniHackWorld"]


def __getattr__(name: str) -> Any:
    if name == "MiniHackWorld":
        from automem_envs.minihack.world import MiniHackWorld

        return MiniHackWorld
    if name == "MiniHackPlayer":
        from automem_envs.minihack.player import MiniHackPlayer

        return MiniHackPlayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
