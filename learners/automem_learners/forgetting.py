"""Training data without what is to be forgotten: whole conversations go, and the card says so.

The dataset gets a new digest, so an adapter that was trained on the old one is not taken for one of
the new. Not covered: adapters themselves; `automem forget` names them.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from automem.audit.forget import DatasetChange
from automem_learners.dataset import CARD, TABLE, Conversation, load_dataset, write_dataset


class Datasets:
    """Implements `automem.audit.forget.Datasets`."""

    def without(self, folder: Path, holds: Callable[[str], bool]) -> DatasetChange | None:
        """See `automem.audit.forget.Datasets`. UsageError where the folder's dataset is damaged."""
        dataset = load_dataset(folder)
        kept = [row for row in dataset.conversations if not _is_held(row, holds)]
        dropped = len(dataset.conversations) - len(kept)
        card = dataset.card
        if not dropped:
            return None
        if not kept:
            return DatasetChange(card.digest, dropped, {})
        with tempfile.TemporaryDirectory(prefix="automem-forget-") as made:
            write_dataset(
                Path(made),
                kept,
                kind=card.kind,
                base_model=card.base_model,
                made_by=f"{card.made_by}; {dropped} forgotten",
            )
            files = {name: (Path(made) / name).read_bytes() for name in (TABLE, CARD)}
        return DatasetChange(card.digest, dropped, files)


def _is_held(row: Conversation, holds: Callable[[str], bool]) -> bool:
    return any(holds(text) for _, text in row.messages)
