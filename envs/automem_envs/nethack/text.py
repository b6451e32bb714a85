"""The sections of a NetHack observation, as text.

`message`, `around`, `cursor`, `map`, `inventory`, `status`, each a header line `name:` and its
lines. The map is the terminal's 24 x 80 without its first line, which the message repeats. What
changes rarely (the inventory) is rendered again only when its bytes changed.
"""

from collections.abc import Sequence
from typing import Any

from nle import nethack
from numpy.typing import NDArray

_WIDTH = 80
_HUNGER = ("satiated", "not hungry", "hungry", "weak", "fainting", "fainted", "starved")
_BURDEN = ("unburdened", "burdened", "stressed", "strained", "overtaxed", "overloaded")
_ALIGNMENT = {-1: "chaotic", 0: "neutral", 1: "lawful"}
_CONDITIONS = tuple(
    (getattr(nethack, f"BL_MASK_{name}"), word)
    for name, word in (
        ("STONE", "turning to stone"),
        ("SLIME", "turning to slime"),
        ("STRNGL", "strangled"),
        ("FOODPOIS", "food poisoning"),
        ("TERMILL", "terminally ill"),
        ("BLIND", "blind"),
        ("DEAF", "deaf"),
        ("STUN", "stunned"),
        ("CONF", "confused"),
        ("HALLU", "hallucinating"),
        ("LEV", "levitating"),
        ("FLY", "flying"),
        ("RIDE", "riding"),
    )
)
_NONE = "none"


class Pages:
    """Renders sections and remembers the one that rarely changes."""

    def __init__(self) -> None:
        self._inventory_bytes = b""
        self._inventory = _NONE

    def inventory(self, texts: NDArray[Any], letters: NDArray[Any]) -> str:
        """One line for each thing carried: `a: a +1 dagger (weapon in hand)`."""
        key = texts.tobytes() + letters.tobytes()
        if key != self._inventory_bytes:
            self._inventory_bytes = key
            self._inventory = "\n".join(
                f"{chr(letter)}: {text.tobytes().split(bytes(1), 1)[0].decode('latin-1')}"
                for letter, text in zip(letters.tolist(), texts, strict=True)
                if letter
            )
        return self._inventory or _NONE


def terminal(screen: NDArray[Any]) -> str:
    """Lines 2 to 24 of the terminal, without trailing blanks."""
    text = screen.tobytes().decode("latin-1")
    return "\n".join(
        text[start : start + _WIDTH].rstrip() for start in range(_WIDTH, len(text), _WIDTH)
    )


def cursor(place: Sequence[int]) -> str:
    """Where the cursor is: on the player, on a place being chosen, or in a prompt (row 0)."""
    row, column = place
    return f"row {row}, column {column}"


def status(numbers: Sequence[int]) -> str:
    """The bottom lines in words, from nle's `blstats`."""
    bits = numbers[nethack.NLE_BL_CONDITION]
    conditions = [word for mask, word in _CONDITIONS if bits & mask]
    return (
        f"health {numbers[nethack.NLE_BL_HP]}/{numbers[nethack.NLE_BL_HPMAX]}, "
        f"energy {numbers[nethack.NLE_BL_ENE]}/{numbers[nethack.NLE_BL_ENEMAX]}, "
        f"armor class {numbers[nethack.NLE_BL_AC]}, "
        f"experience level {numbers[nethack.NLE_BL_XP]} ({numbers[nethack.NLE_BL_EXP]} points), "
        f"dungeon level {numbers[nethack.NLE_BL_DEPTH]}, "
        f"gold {numbers[nethack.NLE_BL_GOLD]}, turn {numbers[nethack.NLE_BL_TIME]}\n"
        f"strength {_strength(numbers[nethack.NLE_BL_STR125])}, "
        f"dexterity {numbers[nethack.NLE_BL_DEX]}, "
        f"constitution {numbers[nethack.NLE_BL_CON]}, intelligence {numbers[nethack.NLE_BL_INT]}, "
        f"wisdom {numbers[nethack.NLE_BL_WIS]}, charisma {numbers[nethack.NLE_BL_CHA]}, "
        f"{_ALIGNMENT.get(numbers[nethack.NLE_BL_ALIGN], 'unaligned')}\n"
        f"{_word(_HUNGER, numbers[nethack.NLE_BL_HUNGER])}, "
        f"{_word(_BURDEN, numbers[nethack.NLE_BL_CAP])}, "
        f"conditions: {', '.join(conditions) or _NONE}"
    )


def _strength(number: int) -> str:
    """NetHack counts 3 to 18, then 18/01 to 18/99 and 18/100 (19 to 118), then 19 to 25."""
    if number <= 18:
        return str(number)
    return f"18/{number - 18:02}" if number <= 118 else str(number - 100)


def _word(words: Sequence[str], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)
