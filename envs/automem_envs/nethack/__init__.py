"""NetHack as text: the world and a scripted player for it.

Both names load on first use; importing this package does not import the game.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.nethack.player import NetHackPlayer
    from automem_envs.nethack.world import NetHackWorld

__all__ = ["NetHackPlayer", "NetHackWorld"]


def __getattr__(name: str) -> Any:
    if name == "NetHackWorld":
        from automem_envs.nethack.world import NetHackWorld

        return NetHackWorld
    if name == "NetHackPlayer":
        from automem_envs.nethack.player import NetHackPlayer

        return NetHackPlayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
