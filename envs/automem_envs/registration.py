"""Gymnasium ids of the worlds, for programs that make environments by name.

Nothing is registered by importing this: call `register_worlds` first, or import `registered`. The
runtime itself builds worlds from `conf/env/` and needs no ids.
"""

import gymnasium

WORLDS: dict[str, str] = {
    "automem/Battleship-v0": "automem_envs.memory_games.battleship:BattleshipWorld",
    "automem/Concentration-v0": "automem_envs.concentration.world:ConcentrationWorld",
    "automem/CountRecall-v0": "automem_envs.memory_games.cards:CountRecallWorld",
    "automem/Crafter-v0": "automem_envs.crafter.world:CrafterWorld",
    "automem/DeckConcentration-v0": (
        "automem_envs.memory_games.deck_concentration:DeckConcentrationWorld"
    ),
    "automem/GridMemory-v0": "automem_envs.memory_games.grids:GridMemoryWorld",
    "automem/Memento-v0": "automem_envs.memory_games.memento:MementoWorld",
    "automem/MiniHack-v0": "automem_envs.minihack.world:MiniHackWorld",
    "automem/NetHack-v0": "automem_envs.nethack.world:NetHackWorld",
    "automem/RecordedSessions-v0": "automem_envs.sessions.recorded:RecordedSessionsWorld",
    "automem/RedBlueDoors-v0": "automem_envs.memory_games.grids:RedBlueDoorsWorld",
    "automem/RepeatPrevious-v0": "automem_envs.memory_games.cards:RepeatPreviousWorld",
    "automem/Sessions-v0": "automem_envs.sessions.world:SessionsWorld",
}
"""Gymnasium id to entry point."""


def register_worlds() -> None:
    """Make every id of `WORLDS` known to `gymnasium.make`; again is harmless.

    Worlds cap their own episodes, so Gymnasium adds no time limit, and its passive checker, made
    for arrays, is left out."""
    for name, entry_point in WORLDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry_point, disable_env_checker=True)
