"""One game of NetHack behind nle: keys go in, what a player would read comes out.

A `Game` types the keys of one action, presses `--More--` away, and collects what scrolled past
meanwhile as the message. The arrays are nle's own buffers: they are overwritten by the next key.
The options are those of `NetHackChallenge-v0`; with both seeds set, no reseeding and the phase of
the moon taken from the seed, a game is a function of its seed and its keys.

Many games live in one process, each with a private copy of NetHack's library (3 MB); what one does
no other sees. Not covered: a game that hangs or crashes in C takes its process along.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from nle.nethack import NETHACKOPTIONS, Nethack
from numpy.typing import NDArray

from automem_envs.nethack.keys import ENTER, SPACE, Prompt

OBSERVED = (
    "glyphs",
    "blstats",
    "message",
    "program_state",
    "inv_strs",
    "inv_letters",
    "screen_descriptions",
    "tty_chars",
    "tty_cursor",
    "internal",
)
"""Buffers of nle that a `Game` reads."""
_TURN = 20
"""Place of blstats."""
_MORE = b"--More--"
_MOST_PRESSES = 500
"""`--More--` in a row; a game that asks for more of them hangs."""
_WIDTH = 80

END_REASONS = (
    "died",
    "choked",
    "died of poison",
    "starved",
    "drowned",
    "burned",
    "dissolved",
    "crushed",
    "turned to stone",
    "turned to slime",
    "genocided",
    "the game panicked",
    "tricked",
    "quit",
    "escaped the dungeon",
    "ascended",
)
"""In words, in the order of nle's `game_end_types`."""
ASCENDED = 15


def new_nethack(character: str = "@") -> Nethack:
    """A NetHack with the options of `NetHackChallenge-v0`: any role and race, drawn by the seed."""
    return Nethack(
        observation_keys=OBSERVED,
        playername=f"Agent-{character}",
        ttyrec=None,
        options=NETHACKOPTIONS,
        fix_moon_phase=True,
    )


class Game:
    """See the module's docstring."""

    def __init__(self, nethack: Nethack, buffers: Mapping[str, NDArray[Any]]) -> None:
        """`buffers`: the arrays of `OBSERVED` that this NetHack writes into."""
        self._nethack = nethack
        self.glyphs = buffers["glyphs"]
        self.blstats = buffers["blstats"]
        self.descriptions = buffers["screen_descriptions"]
        self.inventory_texts = buffers["inv_strs"]
        self.inventory_letters = buffers["inv_letters"]
        self.screen = buffers["tty_chars"]
        self.cursor = buffers["tty_cursor"]
        self._message = buffers["message"]
        self._program = buffers["program_state"]
        # A question is open, a line of text is read, a key is waited for.
        self._asks = buffers["internal"][1:4]
        self.message = ""
        self.is_over = False
        self.standing: list[int] = []
        """`blstats` as they were last while the game went on; at its end nle clears them."""

    @classmethod
    def new(cls, character: str = "@") -> "Game":
        """A game of its own; `start` it before the first key."""
        nethack = new_nethack(character)
        # Without a copy, these are the very arrays that every step writes.
        return cls(nethack, dict(zip(OBSERVED, nethack._step_return(), strict=True)))

    def start(self, seed: int) -> None:
        """A new game, as far as the first turn."""
        self._nethack.set_initial_seeds(seed, seed, False)
        self._nethack.reset()
        for _ in range(_MOST_PRESSES):
            if self._program[3]:
                break
            self._nethack.step(SPACE)
        else:
            raise RuntimeError(f"NetHack did not come to its first turn with seed {seed}")
        self.begin()

    def begin(self) -> None:
        """Read a game that was just started."""
        self.is_over = False
        self._stand()
        self._collect([])

    def press(self, keys: Iterable[int]) -> None:
        """Type keys; what scrolls past becomes the message."""
        said: list[str] = []
        for key in keys:
            self._type(key)
            if self._asks[2]:
                self._note(said)
            if self.is_over:
                break
        self._collect(said)

    @property
    def prompt(self) -> Prompt:
        """What the game waits for."""
        if self._asks[1]:
            return Prompt.TEXT
        return Prompt.KEY if self._asks[0] or self._asks[2] else Prompt.NONE

    @property
    def end(self) -> str:
        """Why the game is over, in words, with the cause of death as NetHack's log tells it."""
        how = int(self._nethack.how_done())
        reason = END_REASONS[how] if 0 <= how < len(END_REASONS) else "ended"
        cause = self._logged().get("death", "")
        return f"{reason}: {cause}" if cause and cause != reason else reason

    @property
    def deepest_level(self) -> int:
        """The deepest level that a game that is over had reached, as NetHack's log tells it."""
        return int(self._logged().get("maxlvl", 1))

    @property
    def has_ascended(self) -> bool:
        """The one way to win."""
        return self.is_over and int(self._nethack.how_done()) == ASCENDED

    def close(self) -> None:
        """Free the library's copy and its temporary folder."""
        self._nethack.close()

    def _type(self, key: int) -> None:
        self._nethack.step(key)
        self.is_over = bool(self._nethack._pynethack.done())
        if not self.is_over:
            self._stand()

    def _stand(self) -> None:
        """Keep the numbers of a game that goes on."""
        numbers = self.blstats.tolist()
        if numbers[_TURN]:
            self.standing = numbers

    def _collect(self, said: list[str]) -> None:
        """Press `--More--` away and make the message of all that was shown."""
        for _ in range(_MOST_PRESSES):
            if self.is_over:
                break
            is_ending = bool(self._program[0])
            if not (is_ending or (self._asks[2] and self._shows_more())):
                break
            self._note(said)
            self._type(ENTER)
        else:
            raise RuntimeError("NetHack keeps asking for --More--")
        self._note(said)
        self.message = "\n".join(said)

    def _shows_more(self) -> bool:
        row, column = self.cursor.tolist()
        end = row * _WIDTH + column
        return self.screen.tobytes()[max(end - len(_MORE), 0) : end] == _MORE

    def _note(self, said: list[str]) -> None:
        """Add what the screen says now, unless it was the last thing said."""
        text = self._message.tobytes().split(b"\0", 1)[0].decode("latin-1").strip()
        if not text and self._asks[2]:
            text = self._window()
        if text and said[-1:] != [text]:
            said.append(text)

    def _window(self) -> str:
        """The text of a window that lies over the map; its left edge is where its end mark is."""
        row, column = self.cursor.tolist()
        lines = [bytes(line).decode("latin-1") for line in self.screen[: row + 1]]
        mark = lines[row][:column].rstrip()
        left = max(mark.rfind("("), mark.rfind("--More--"), 0)
        shown = [line[left:].rstrip() for line in lines[:row]]
        return "\n".join(line for line in shown if line)

    def _logged(self) -> dict[str, str]:
        """The line that NetHack wrote into its log at the end, by field."""
        path = os.path.join(self._nethack._vardir, "xlogfile")
        with open(path, encoding="latin-1") as log:
            lines = log.read().splitlines()
        return dict(
            part.split("=", 1) for line in lines[-1:] for part in line.split("\t") if "=" in part
        )


def buffers_of(names: Iterable[str], arrays: Iterable[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Names and arrays in nle's order, paired; ValueError where one is missing."""
    found = dict(zip(names, arrays, strict=True))
    missing = sorted(set(OBSERVED) - set(found))
    if missing:
        raise ValueError(f"nle was not asked for {', '.join(missing)}")
    return found
