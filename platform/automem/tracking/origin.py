"""Where a trained adapter comes from, as the ledger of its loop tells: data, comparisons, verdict.

Promise: reads only, and finds nothing rather than something else: an adapter that has left its
loop's folder, or that no ledger names, has no origin. A ledger is read as the plain JSON lines that
it is, so a tracker and an export need no part of the loops.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEDGER = "ledger.jsonl"
SELECTION = "selection"
"""The folder beside an adapter's with the turns that were picked for it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One contender of one round."""

    loop: Path
    """The folder of its ledger."""
    round: int
    declared: Mapping[str, Any]
    """World, base, scaffold and the gate's rule."""
    data: Mapping[str, Any]
    """The round's data recipe."""
    picked: Mapping[str, Any]
    """Episodes, and what selection gave: turns, considered, verdict."""
    comparisons: tuple[Mapping[str, Any], ...]
    """The last look at its race, and its confirmation: `kind` beside what a comparison has."""
    rival: str
    """The champion that it met; empty for the base."""
    verdict: str
    """Of its round, where it is the contender that went furthest; else empty."""

    def plain(self) -> dict[str, Any]:
        """What an artifact's metadata holds."""
        return {
            "loop": self.loop.name,
            "round": self.round,
            "data": dict(self.data),
            "turns": self.picked.get("turns"),
            "episodes": self.picked.get("episodes"),
            "comparisons": [dict(each) for each in self.comparisons],
            "verdict": self.verdict,
        }


def origin_of(adapter: Path) -> Origin | None:
    """That of the folder that engines load, or of the one with its card."""
    place = adapter.resolve()
    for loop in place.parents:
        if (loop / LEDGER).is_file():
            return _in_ledger(loop, place)
    return None


def selection_of(adapter: Path) -> Path | None:
    """The folder with the turns that an adapter's card folder was trained from."""
    folder = adapter.parent / SELECTION
    return folder if folder.is_dir() else None


def _in_ledger(loop: Path, place: Path) -> Origin | None:
    entries = list(_entries(loop / LEDGER))
    for number, what in entries:
        if what["type"] == "trained":
            made = (loop / what["specialist"]["path"]).resolve()
            if place in (made, made.parent):
                return _origin(loop, entries, number, what)
    return None


def _origin(
    loop: Path, entries: list[tuple[int, dict[str, Any]]], number: int, trained: Mapping[str, Any]
) -> Origin:
    def last(kind: str, round_number: int = number) -> dict[str, Any]:
        found = [what for at, what in entries if at == round_number and what["type"] == kind]
        return found[-1] if found else {}

    looks = {
        what["kind"]: {"kind": what["kind"], **what["comparison"]}
        for at, what in entries
        if at == number and what["type"] == "compared" and what["contender"] == trained["contender"]
    }
    before = [what for at, what in entries if at < number and what["type"] == "closed"]
    champion = before[-1]["champion"] if before else None
    picked, closed = last("picked"), last("closed")
    went_furthest = (closed.get("contender") or {}).get("path") == trained["specialist"]["path"]
    return Origin(
        loop=loop,
        round=number,
        declared=last("declared", 0),
        data=last("chosen").get("recipe", {}).get("data", {}),
        picked={"episodes": picked.get("episodes"), **picked.get("selected", {})},
        comparisons=tuple(looks.values()),
        rival=champion["name"] if champion else "",
        verdict=closed.get("verdict") or "" if went_furthest else "",
    )


def _entries(ledger: Path) -> list[tuple[int, dict[str, Any]]]:
    """(round, what); a line that a death cut short is left out."""
    found = []
    for line in ledger.read_text().splitlines():
        try:
            entry = json.loads(line)
            found.append((int(entry["round"]), dict(entry["what"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found
