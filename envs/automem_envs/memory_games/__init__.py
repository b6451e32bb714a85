"""Recognised memory benchmarks as text: four games of POPGym, two of MiniGrid, one of MiniHack.

The rules are those of the packages `popgym` and `minigrid` (`pip install 'automem[games]'`) and
`minihack` (`make setup-nethack`); ours are the text, the scores in [0, 1] and the horizon as a
parameter. The names load on first use, so that naming them in a config costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "BattleshipPlayer": "battleship_player",
    "BattleshipWorld": "battleship",
    "CountRecallPlayer": "card_players",
    "CountRecallWorld": "cards",
    "DeckConcentrationPlayer": "card_players",
    "DeckConcentrationWorld": "deck_concentration",
    "GridMemoryPlayer": "grid_players",
    "GridMemoryWorld": "grids",
    "MementoPlayer": "memento_player",
    "MementoWorld": "memento",
    "RedBlueDoorsPlayer": "grid_players",
    "RedBlueDoorsWorld": "grids",
    "RepeatPreviousPlayer": "card_players",
    "RepeatPreviousWorld": "cards",
}

__all__ = [
    "BattleshipPlayer",
    "BattleshipWorld",
    "CountRecallPlayer",
    "CountRecallWorld",
    "DeckConcentrationPlayer",
    "DeckConcentrationWorld",
    "GridMemoryPlayer",
    "GridMemoryWorld",
    "MementoPlayer",
    "MementoWorld",
    "RedBlueDoorsPlayer",
    "RedBlueDoorsWorld",
    "RepeatPreviousPlayer",
    "RepeatPreviousWorld",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
