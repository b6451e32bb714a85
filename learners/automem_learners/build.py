"""From a selection to a dataset: the selected turns of each episode, read off its journal."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from automem.errors import UsageError
from automem.memory.dialects import make_dialect
from automem.rollout.chain import read_events
from automem.rollout.redactions import forgotten_turns
from automem_learners.dataset import Conversation, DataKind, Dataset, write_dataset
from automem_learners.exact import ExactReader
from automem_learners.published import PublishedReader
from automem_learners.select.selection import Selection


def build_dataset(
    selection: Selection,
    folder: Path,
    *,
    base_model: str,
    kind: DataKind = DataKind.EXACT,
    dialect: str = "tags",
    adjust: Callable[[list[Conversation]], Iterable[Conversation]] = iter,
) -> Dataset:
    """Write the selected turns to `folder` as training data.

    `dialect`: how the episodes spelled operations. `adjust`: what is written of the conversations.
    Turns that were forgotten since are left out.
    UsageError where a trace is missing, lacks what `kind` needs, or does not agree with itself."""
    return write_dataset(
        folder,
        adjust(list(_conversations(selection, base_model, kind, dialect))),
        kind=kind,
        base_model=base_model,
        made_by=f"selector {selection.selector}",
    )


def _conversations(
    selection: Selection, base_model: str, kind: DataKind, dialect: str
) -> Iterator[Conversation]:
    make = ExactReader if kind is DataKind.EXACT else PublishedReader
    reader: ExactReader | PublishedReader = make(base_model, make_dialect(dialect))
    for (run, episode), chosen in selection.by_episode().items():
        directory = Path(run) / "episodes" / episode
        events = read_events(directory)
        if not events:
            raise UsageError(
                f"{directory} holds no journal: the selection was made from a run that has moved "
                "or was removed"
            )
        for row in reader.conversations(events, chosen, forgotten_turns(directory)):
            is_turn = kind is DataKind.EXACT  # the published rules weigh nothing
            yield replace(row, share=chosen[row.step, row.turn].weight) if is_turn else row
