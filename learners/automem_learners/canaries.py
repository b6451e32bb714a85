"""A trainer that can plant canaries: facts repeated in training data, so that a leak is known.

For `automem audit` alone: a specialist that was trained on planted canaries must be flagged, or the
audit sees nothing. It is never promoted.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.loops.recipes import Selected
from automem_learners.dataset import CARD, Conversation, load_dataset, write_dataset
from automem_learners.specialist import SpecialistTrainer


class CanaryTrainer(SpecialistTrainer):
    """Implements `automem.audit.experiment.PlantingTrainer`."""

    def plant(
        self,
        selected: Selected,
        folder: Path,
        turns: Sequence[tuple[Sequence[tuple[str, str]], str]],
        seed: int,
    ) -> Selected:
        """The dataset of `selected` (which must have been trained on) with `turns`, each the
        (role, text) messages of a prompt and what is answered; `seed`: the world they are of."""
        source = load_dataset(_dataset_of(Path(selected.folder)))
        target = _dataset_of(folder)
        model = source.card.base_model
        planted = [
            self._conversation(model, *turn, number, seed) for number, turn in enumerate(turns)
        ]
        if not (target / CARD).is_file():
            write_dataset(
                target,
                [*source.conversations, *planted],
                kind=source.card.kind,
                base_model=model,
                made_by=f"{source.card.made_by}; {len(planted)} planted canaries",
            )
        return Selected(
            folder=str(folder), turns=selected.turns + len(planted), verdict="canaries planted"
        )

    def _conversation(
        self, model: str, prompt: Sequence[tuple[str, str]], answer: str, number: int, seed: int
    ) -> Conversation:
        renderer, tokenizer = ChatRenderer(model), load_tokenizer(model)
        start = renderer.start([Message(*message) for message in prompt])
        said = tokenizer.encode(answer, add_special_tokens=False)
        if renderer.turn_end is not None:
            said = [*said, renderer.turn_end]
        weights = np.zeros(len(start) + len(said), np.float32)
        weights[len(start) :] = 1.0
        return Conversation(
            token_ids=np.asarray([*start, *said], np.int32),
            weights=weights,
            messages=(*((role, text) for role, text in prompt), ("assistant", answer)),
            kind="log",
            episode=f"canary-{number}",
            step=0,
            turn=0,
            seed=seed,
            synthetic=len(said),
        )


def _dataset_of(selection: Path) -> Path:
    return selection.with_name(f"{selection.name}-dataset")
