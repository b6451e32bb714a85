"""A learned gate as a session runs it: a small TorchScript file and a card, in this process.

The folder holds `gate.pt` (features, float32 of shape (n, len(NAMES)), to logits of shape (n, 6):
three of LOG, three of consulting, in the order skip, brief, full) and `gate.json`. Nothing of what
trained it is imported. TorchScript is code of its own small language and reads no files; still, a
gate is part of a policy and as trusted as its adapter. (torch calls TorchScript deprecated
by now; the version that is pinned has it.)
"""

import hashlib
import random
import warnings
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.gating.decision import DEPTHS, Decision, Question
from automem.agent.gating.features import NAMES
from automem.errors import UsageError

WEIGHTS, CARD = "gate.pt", "gate.json"


class GateError(UsageError):
    """A gate's folder cannot be used; the message says what is wrong with it."""


class GateCard(msgspec.Struct, frozen=True):
    """`gate.json`."""

    features: tuple[str, ...]
    is_sampled: bool = False
    """Choices are drawn by the step's seed instead of taking the likeliest: while it is trained."""
    about: dict[str, Any] = {}
    """How it came about: price, seed, steps."""


class ExportedGate:
    """See the module's docstring; implements `MemoryGate`."""

    def __init__(self, folder: Path) -> None:
        """GateError where the folder holds no gate of these features."""
        card, data = _read(folder)
        if card.features != NAMES:
            raise GateError(
                f"{folder} was trained on other features than this version has: train it again"
            )
        self.name = f"gate@{_digest(data, card)}"
        self._is_sampled = card.is_sampled
        self._net = _load(data)

    def decide(self, question: Question) -> Decision:
        """See `MemoryGate`."""
        logits = self.logits([question.features])[0]
        if self._is_sampled:
            chooser = random.Random(question.seed)
            log, consult = _draw(logits[:3], chooser), _draw(logits[3:], chooser)
        else:
            log, consult = _best(logits[:3]), _best(logits[3:])
        return Decision(DEPTHS[log], DEPTHS[consult])

    def logits(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """Shape (n, 6)."""
        import torch

        with torch.inference_mode():
            found: list[list[float]] = self._net(torch.tensor(rows, dtype=torch.float32)).tolist()
        if any(len(row) != 6 or any(value != value for value in row) for row in found):
            raise GateError(f"{self.name} gives no six numbers for a step")
        return found


def gate_digest(folder: Path) -> str:
    """Digest of the gate in `folder` (8 hex digits), or `missing`."""
    try:
        card, data = _read(folder)
    except GateError:
        return "missing"
    return _digest(data, card)


def _digest(data: bytes, card: GateCard) -> str:
    hashed = hashlib.blake2b(data, digest_size=4)
    hashed.update(b"sampled" if card.is_sampled else b"")
    return hashed.hexdigest()


def _read(folder: Path) -> tuple[GateCard, bytes]:
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=GateCard)
        return card, (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise GateError(f"{folder} is no gate: expected {CARD} and {WEIGHTS} in it") from None
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise GateError(f"{folder} cannot be read as a gate: {error}") from None


@lru_cache(maxsize=8)
def _load(data: bytes) -> Any:
    """The network, once per process and content."""
    import torch

    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return torch.jit.load(BytesIO(data), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise GateError(f"{WEIGHTS} is no TorchScript file: {first}") from error


def _best(logits: Sequence[float]) -> int:
    """The likeliest; of equals the dearest, so that a tie never costs memory."""
    return max(range(3), key=lambda choice: (logits[choice], choice))


def _draw(logits: Sequence[float], chooser: random.Random) -> int:
    from math import exp

    top = max(logits)
    return chooser.choices(range(3), weights=[exp(value - top) for value in logits])[0]
