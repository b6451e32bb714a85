"""Reference points: figures from elsewhere that stand beside a run's own, and where they hold.

They are described, never decided upon, and shown only where the run played the same cap of steps.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """Mean progression of another player on the same world."""

    world: str
    label: str
    value: float
    source: str
    max_steps: int = 0
    """Holds for this cap on actions; 0: for any."""
    group: str = "published, language model"


_PAPER = "arXiv 2607.01224, seeds 42-51"

REFERENCES = (
    Reference("crafter", "Qwen2.5-32B with AutoMem", 0.5136, _PAPER, 2000),
    Reference("crafter", "Claude Opus 4.5", 0.495, _PAPER, 2000),
    Reference("crafter", "Gemini 3.1 Pro Thinking", 0.55, _PAPER, 2000),
)


def references_for(world: str, max_steps: int) -> list[Reference]:
    """The reference points that may stand beside a run of `world` with this cap."""
    return [r for r in REFERENCES if r.world == world and r.max_steps in (0, max_steps)]
