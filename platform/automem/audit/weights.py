"""What forgetting cannot undo: weights that were trained on the fact, by their cards and ledgers;
and which files are weights and tokenizers.

An adapter whose card names a dataset that held the fact has seen it, and so has every adapter that
training began from one that had. The bytes of weights say nothing, so they are named and not
masked; the retraining is the card's own: its recipe, on the dataset without the fact. The words
of a tokenizer are tied to the rows of a model's embedding: where they hold the fact, it is named.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

CARD = "adapter.json"
LEDGER = "ledger.jsonl"
PROGRESS = "progress.json"
"""In each checkpoint of a training."""
CHECKPOINTS = frozenset({"checkpoints", "ray"})
"""Folders of checkpoints in the output folder of a training: its own, and Ray Train's."""
MADE = ".made"
"""Beside them: trained weights that are not published yet."""
HELD = "its dataset held the fact"
WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".bin", ".onnx", ".gguf"})
"""Suffixes of files of weights, a gate's (`gate.pt`) among them."""
_TOKENIZER = frozenset(
    {
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
    }
)
_MODEL = {"config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json"}
"""What lies beside a tokenizer's files, and seldom beside anything else of these names."""


class Tainted(msgspec.Struct, frozen=True):
    """An adapter or model that was trained on what is to be forgotten."""

    name: str
    path: str
    """Its card's folder, relative to the searched one."""
    dataset: str
    """Digest of the dataset that it was trained on."""
    steps: int
    conversations: int
    seconds: float
    because: str
    weights: str = ""
    """Digest of its weights, by which copies are known."""

    def sentence(self) -> str:
        """What it is, and what it would take."""
        return (
            f"{self.path} ({self.name}): {self.because}; train it again: {self.steps} steps on "
            f"{self.conversations} conversations or fewer, {self.seconds:.0f} s the last time; "
            "then promote the new version and delete this folder and its copies in registries"
        )


def why_kept(name: str, is_text: bool, beside: Collection[str]) -> str:
    """Why a file that holds the fact is not masked, and what it would take; empty for any other.
    `beside`: names in its folder. A text is no weights, whatever it is called."""
    if not is_text and Path(name).suffix in WEIGHTS:
        return (
            "its bytes hold it, by chance or in a description, and a masked byte of weights would "
            "change the model: export it again without, or remove it"
        )
    is_tokenizer = name in _TOKENIZER or Path(name).stem == "vocab"
    if is_tokenizer and _MODEL & set(beside) - {name}:
        return (
            "the tokenizer's words hold it, and a masked one would change what the model reads: "
            "make a tokenizer without and train the model anew, or remove both"
        )
    return ""


def tainted(folder: Path, datasets: Iterable[str]) -> list[Tainted]:
    """Adapters below `folder` that were trained on one of these datasets (digests), or begun from
    one that was; and their copies, as a registry keeps them without the card."""
    seen, found = set(datasets), dict[Path, Tainted]()
    cards = {path.parent: _read(path) for path in sorted(folder.glob(f"**/{CARD}"))}
    for place, card in cards.items():
        if card.get("dataset") in seen:
            found[place] = _named(card, place, folder, HELD)
    heirs = [pair for path in folder.glob(f"**/{LEDGER}") for pair in _inherited(path)]
    is_growing = True
    while is_growing:
        is_growing = False
        names = {each.name for each in found.values()}
        for child, parent in heirs:
            because = f"its training began from {parent}"
            for place in _places(cards, child) if parent in names else ():
                if place not in found:
                    card = {**cards.get(place, {}), "name": child}
                    found[place] = _named(card, place, folder, because)
                    is_growing = True
    return [*found.values(), *_copies(folder, found)]


def unfinished(folder: Path, sources: Collection[str]) -> list[Path]:
    """Checkpoints (weights and optimizer states) of trainings, Ray Train's too, that learned from
    one of these datasets or went on from one of these weights (digests)."""
    found = set()
    for path in folder.glob(f"**/{PROGRESS}"):
        if not set(sources) & set(learned_from(path.read_bytes())):
            continue
        above = [place for place in path.parents if place.is_relative_to(folder)]
        roots = [place for place in above if place.name in CHECKPOINTS]
        found |= {roots[0], roots[0].parent / MADE} if roots else {path.parent}
    return sorted(path for path in found - {folder} if path.is_dir())


def learned_from(progress: bytes) -> list[str]:
    """What a checkpoint's `progress.json` names as the training's sources, digests."""
    try:
        return [str(each) for each in json.loads(progress)["sources"]]
    except (ValueError, KeyError, TypeError):
        return []  # not one of ours


def _inherited(ledger: Path) -> Iterator[tuple[str, str]]:
    """(child, parent) of every adapter whose round went on from the champion of its time."""
    champion, starts = "", False
    for entry in _lines(ledger):
        what = entry.get("what", {})
        if what.get("type") == "chosen":
            starts = what.get("recipe", {}).get("start") == "champion"
        elif what.get("type") == "trained" and starts and champion:
            yield str(what["specialist"]["name"]), champion
        elif what.get("type") == "closed":
            champion = str((what.get("champion") or {}).get("name", ""))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # a torn tail
        if isinstance(value, dict):
            yield value


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) and "name" in value else {}


def _places(cards: dict[Path, dict[str, Any]], name: str) -> list[Path]:
    """Where cards of this name lie; the bare name where none does."""
    return [place for place, card in cards.items() if card.get("name") == name] or [Path(name)]


def _copies(folder: Path, found: dict[Path, Tainted]) -> Iterator[Tainted]:
    """Folders with the same weights, apart from those that the cards are of."""
    originals = {each.weights: each for each in found.values() if each.weights}
    if not originals:
        return
    for place in sorted({path.parent for path in folder.glob("**/*.safetensors")}):
        if any(place.is_relative_to(card) for card in found):
            continue
        if original := originals.get(digest_of(sorted(place.glob("*.safetensors")))):
            where, because = str(place.relative_to(folder)), f"a copy of {original.path}"
            yield msgspec.structs.replace(original, path=where, because=because)


def digest_of(files: Iterable[Path]) -> str:
    """Digest of weights as a card has it: of the files' bytes, in this order."""
    found = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    return found.hexdigest()


def _named(card: dict[str, Any], place: Path, folder: Path, because: str) -> Tainted:
    is_here = place.is_relative_to(folder)
    where = str(place.relative_to(folder)) if is_here else "not in this folder"
    return Tainted(
        name=str(card.get("name", "")),
        path=where,
        dataset=str(card.get("dataset", "")),
        steps=int(card.get("steps", 0)),
        conversations=int(card.get("conversations", 0)),
        seconds=float(card.get("seconds", 0.0)),
        because=because,
        weights=str(card.get("weights", "")),
    )
