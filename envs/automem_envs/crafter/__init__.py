"""Crafter as text: the world and a scripted player for it.

Both names load on first use, so that naming them in a config costs nothing: the game's own package
takes half a second to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.crafter.player import CrafterPlayer
    from automem_envs.crafter.world import CrafterWorld

__all__ = ["CrafterPlayer", "CrafterWorld"]


def __getattr__(name: str) -> Any:
    if name == "CrafterWorld":
        from automem_envs.crafter.world import CrafterWorld

        return CrafterWorld
    if name == "CrafterPlayer":
        from automem_envs.crafter.player import CrafterPlayer

        return CrafterPlayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
