"""Actions of NetHack in words, and the keys that each one types.

An action is a command word, a count and a command word (`20 search`), a single character that
answers a prompt, or `type WORDS` where the game asks for a line of text. Every word of `COMMANDS`
can be executed at any time but there, where its key would be a letter of the text. Left out on
purpose: saving, quitting, the options, the shell and the raw extended prompt, since they end the
game or change how it is read.
"""

import re
from collections.abc import Iterable
from enum import StrEnum


def _control(letter: str) -> int:
    return ord(letter) & 0x1F


def _meta(letter: str) -> int:
    return ord(letter) | 0x80


ESCAPE = 27
ENTER = 13
SPACE = 32

DIRECTIONS: dict[str, str] = {
    "north": "k",
    "northeast": "u",
    "east": "l",
    "southeast": "n",
    "south": "j",
    "southwest": "b",
    "west": "h",
    "northwest": "y",
}
"""Words of the compass and NetHack's keys for them; capitals go far."""

_PLAIN = {
    "up": "<",
    "down": ">",
    "wait": ".",
    "search": "s",
    "open": "o",
    "close": "c",
    "eat": "e",
    "quaff": "q",
    "read": "r",
    "wear": "W",
    "take off": "T",
    "take off all": "A",
    "put on": "P",
    "remove": "R",
    "wield": "w",
    "swap weapons": "x",
    "two weapons": "X",
    "throw": "t",
    "fire": "f",
    "quiver": "Q",
    "zap": "z",
    "cast": "Z",
    "apply": "a",
    "pick up": ",",
    "drop": "d",
    "drop types": "D",
    "engrave": "E",
    "pay": "p",
    "call": "C",
    "look": ":",
    "inventory": "i",
    "inventory type": "I",
    "discoveries": "\\",
    "glance": ";",
    "travel": "_",
    "fight": "F",
    "move": "m",
    "rush": "g",
    "toggle autopickup": "@",
    "see trap": "^",
    "see weapon": ")",
    "see armor": "[",
    "see rings": "=",
    "see amulet": '"',
    "see tools": "(",
    "see spells": "+",
    "see gold": "$",
    "see all": "*",
}
_CONTROL = {"kick": "d", "attributes": "x", "overview": "o", "teleport": "t"}
_META = {
    "pray": "p",
    "dip": "d",
    "rub": "r",
    "loot": "l",
    "force": "f",
    "untrap": "u",
    "jump": "j",
    "sit": "s",
    "turn undead": "t",
    "offer": "o",
    "chat": "c",
    "ride": "R",
    "tip": "T",
    "invoke": "i",
    "monster ability": "m",
    "wipe": "w",
    "enhance": "e",
    "adjust": "a",
    "annotate": "A",
    "conduct": "C",
}

COMMANDS: dict[str, int] = {
    **{word: ord(key) for word, key in DIRECTIONS.items()},
    **{f"far {word}": ord(key.upper()) for word, key in DIRECTIONS.items()},
    **{word: ord(key) for word, key in _PLAIN.items()},
    **{word: _control(key) for word, key in _CONTROL.items()},
    **{word: _meta(key) for word, key in _META.items()},
    "esc": ESCAPE,
}
"""Every command word, and the one key that it types."""

ANSWERS: dict[str, int] = {"more": ENTER, "space": SPACE}
"""Words that are keys only where the game asks for something."""

MAX_COUNT = 99
_COUNTED = re.compile(r"([1-9][0-9]?) ([a-z ]+)")
_NUMBER = re.compile(r"[1-9][0-9]")
_TYPED = re.compile(r"type ([ -~]{1,60})", re.IGNORECASE)
_ALWAYS = frozenset(code for code in COMMANDS.values() if 32 < code < 127) | frozenset(
    b"0123456789"
)
"""Characters that are commands, or the digits of a count, when the game asks nothing."""


def grammar(words: Iterable[str]) -> str:
    """The actions of a world that has these command words, in words."""
    return (
        f"a command word ({', '.join(words)}); COUNT and a command word, COUNT up to {MAX_COUNT} "
        "(20 search); where the game asks for a key, one character, `more` (Enter), `space` or a "
        "command word; where it asks for text, `type WORDS`, `more` (an empty line) or `esc`"
    )


GRAMMAR = grammar(COMMANDS)


class Prompt(StrEnum):
    """What the game waits for."""

    NONE = "none"
    """A command (or a place on the map, which takes the same keys)."""
    KEY = "key"
    """One key: a question or an open menu."""
    TEXT = "text"
    """A line of text."""


def keys_for(action: str, prompt: Prompt = Prompt.NONE) -> tuple[int, ...] | None:
    """The keys of an action; None where it is none, or none that fits the prompt."""
    if prompt is Prompt.TEXT:
        return _line_for(action)
    character = action if len(action) == 1 else action.strip()
    if len(character) == 1:
        code = ord(character)
        is_known = code in _ALWAYS if prompt is Prompt.NONE else SPACE <= code < 127
        return (code,) if is_known else None
    words = " ".join(action.lower().split())
    if words in COMMANDS:
        return (COMMANDS[words],)
    if words in ANSWERS and prompt is not Prompt.NONE:
        return (ANSWERS[words],)
    if _NUMBER.fullmatch(words):
        return tuple(words.encode())
    counted = _COUNTED.fullmatch(words)
    if counted is None or counted[2] not in COMMANDS or counted[2] == "esc":
        return None
    return (*counted[1].encode(), COMMANDS[counted[2]])


def _line_for(action: str) -> tuple[int, ...] | None:
    """The keys of an action where a line of text is asked for: the line, or leaving it as it is."""
    typed = _TYPED.fullmatch(action.strip())
    if typed is not None:
        return (*typed[1].encode(), ENTER)
    word = action.strip().lower()
    return {"esc": (ESCAPE,), "more": (ENTER,)}.get(word)


NO_WAY_UP = grammar(word for word in COMMANDS if word != "up")
"""For levels of their own, which nobody leaves upwards."""


def keys_without_up(action: str, prompt: Prompt = Prompt.NONE) -> tuple[int, ...] | None:
    """The keys of an action there."""
    keys = keys_for(action, prompt)
    is_up = prompt is Prompt.NONE and keys is not None and COMMANDS["up"] in keys
    return None if is_up else keys
