"""Crafter as text: the world and scripted players for it.

The names load on first use, so that naming them in a config costs nothing: the game's own package
takes half a second to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automem_envs.crafter.apprentice import ApprenticePlayer
    from automem_envs.crafter.player import CrafterPlayer
    from automem_envs.crafter.world import CrafterWorld

__all__ = ["ApprenticePlayer", "CrafterPlayer", "CrafterWorld"]


def __getattr__(name: str) -> Any:
    if name == "CrafterWorld":
        from automem_envs.crafter.world import CrafterWorld

        return CrafterWorld
    if name == "CrafterPlayer":
        from automem_envs.crafter.player import CrafterPlayer

        return CrafterPlayer
    if name == "ApprenticePlayer":
        from automem_envs.crafter.apprentice import ApprenticePlayer

        return ApprenticePlayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
