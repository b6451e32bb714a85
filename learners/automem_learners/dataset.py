"""Training data on disk: `conversations.parquet` and `card.json` in one folder.

A conversation is a list of token ids with a weight each: 0 is context, above 0 is trained. Promise:
a dataset that loads holds at least one conversation, every conversation trains at least one token
(never the first), comes from a seed of the `train` range, and fits the digest on its card. How
conversations are made from traces: `exact` and `published`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automem.errors import UsageError
from automem.seeds import SeedRange, range_of
from automem_learners.tokenizers import tokenizer_digest
from automem_learners.train.packing import Example

TABLE = "conversations.parquet"
CARD = "card.json"
SCHEMA = 1
HANDOVER = "handover"
"""Kind of a conversation that trains the opening of a commit, and so ends in the middle of a turn:
no text format can say that."""

_COLUMNS = pa.schema(
    [
        ("token_ids", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float32())),
        ("logprobs", pa.list_(pa.float32())),
        (
            "messages",
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        ),
        ("kind", pa.string()),
        ("episode", pa.string()),
        ("step", pa.int32()),
        ("turn", pa.int32()),
        ("seed", pa.int64()),
        ("share", pa.float32()),
        ("adapter", pa.string()),
        ("synthetic", pa.int32()),
        ("prompt_digest", pa.string()),
        ("completion_digest", pa.string()),
    ]
)


class DataKind(StrEnum):
    """How true the tokens are to what the model generated."""

    EXACT = "exact"
    """The prompt and the generated tokens as recorded, checked digest by digest."""
    PUBLISHED = "published"
    """The published rules on texts, tokenised anew: off-policy, barred from RL."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """One training example and where it comes from."""

    token_ids: np.ndarray
    """int32 [T]."""
    weights: np.ndarray
    """float32 [T]: 0 is context, above 0 is trained, relative within the conversation."""
    messages: tuple[tuple[str, str], ...]
    """(role, text) pairs that the tokens say, the trained turn last: for exports."""
    kind: str
    """The routine, `log` or `plan`; or `handover`: the opening of a PLAN turn that hands over."""
    episode: str
    step: int
    turn: int
    """The trained turn (of `published` data: the routine's last)."""
    seed: int
    share: float = 1.0
    """How much it counts beside other conversations, above 0."""
    adapter: str = ""
    """Adapter version that generated it; empty: the base."""
    synthetic: int = 0
    """Trained tokens at the end that no model generated: 1 where a turn's end was added."""
    logprobs: np.ndarray | None = None
    """float32 [T]: as recorded for generated tokens, 0 elsewhere; None where none were."""
    prompt_digest: str = ""
    """As in the trace, 16 hex digits."""
    completion_digest: str = ""
    """Of the trained tokens, 16 hex digits."""

    def example(self) -> Example:
        """What the trainer needs of it."""
        return Example(self.token_ids, self.weights, share=self.share)


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset is; `card.json`."""

    schema: int = SCHEMA
    kind: DataKind
    base_model: str
    """The model whose tokenizer made the ids."""
    tokenizer: str
    """Digest of that tokenizer: a learner refuses every other."""
    made_by: str
    """How the conversations were chosen, in words."""
    conversations: int
    tokens: int
    trained_tokens: int
    by_kind: dict[str, int]
    """Conversations per kind."""
    episodes: int
    seeds: list[int]
    """World seeds they come from, all of the `train` range."""
    digest: str
    """Of all conversations in order, 32 hex digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A dataset in memory."""

    card: Card
    conversations: tuple[Conversation, ...]
    path: Path | None = field(default=None)


def write_dataset(
    folder: Path,
    conversations: Iterable[Conversation],
    *,
    kind: DataKind,
    base_model: str,
    made_by: str,
) -> Dataset:
    """Check, write and return a dataset; UsageError where it could not be trained on."""
    rows = tuple(conversations)
    _check(rows)
    card = Card(
        kind=kind,
        base_model=base_model,
        tokenizer=tokenizer_digest(base_model),
        made_by=made_by,
        conversations=len(rows),
        tokens=sum(len(row.token_ids) for row in rows),
        trained_tokens=sum(int((row.weights > 0).sum()) for row in rows),
        by_kind=dict(sorted(Counter(row.kind for row in rows).items())),
        episodes=len({row.episode for row in rows}),
        seeds=sorted({row.seed for row in rows}),
        digest=_digest(rows),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)  # without a card, what is there is no dataset
    pq.write_table(pa.Table.from_pylist([_as_row(row) for row in rows], _COLUMNS), folder / TABLE)
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
    return Dataset(card, rows, folder)


def load_dataset(folder: Path | str) -> Dataset:
    """The dataset in `folder`, checked against its card; UsageError where it is not whole."""
    folder = Path(folder)
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
        table = pq.read_table(folder / TABLE)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no dataset: expected {CARD} and {TABLE} in it ({error})"
        ) from None
    except (msgspec.DecodeError, pa.ArrowInvalid) as error:
        raise UsageError(f"{folder} holds a damaged dataset ({error}): make it again") from None
    if card.schema != SCHEMA:
        raise UsageError(
            f"{folder} has dataset schema {card.schema}, this version reads {SCHEMA}: make it again"
        )
    if not table.schema.equals(_COLUMNS):
        raise UsageError(
            f"{folder / TABLE} has other columns than this version writes: make it again"
        )
    rows = tuple(_from_row(row) for row in table.to_pylist())
    _check(rows)
    if _digest(rows) != card.digest:
        raise UsageError(
            f"{folder}: the conversations do not fit the digest on {CARD}: one of the two files "
            "was changed; make the dataset again"
        )
    return Dataset(card, rows, folder)


def check_seeds(seeds: Iterable[int]) -> None:
    """Training reads seeds of the `train` range only; the ranges never overlap (automem.seeds)."""
    for seed in seeds:
        where = range_of(seed)
        if where is not SeedRange.TRAIN:
            raise UsageError(
                f"seed {seed} is not one to train on: it belongs to the range "
                f"{where.value if where else 'of no name'}; collect episodes with "
                "rollout.seeds=train"
            )


def digest_ids(ids: Sequence[int] | np.ndarray) -> str:
    """Digest of token ids as traces have it (`Turn.prompt_ids`): 16 hex digits."""
    return hashlib.blake2b(np.asarray(ids, dtype="<u4").tobytes(), digest_size=8).hexdigest()


def _check(rows: Sequence[Conversation]) -> None:
    if not rows:
        raise UsageError(
            "the dataset is empty: the selection kept no turn; loosen the selector, or collect "
            "more episodes"
        )
    check_seeds({row.seed for row in rows})
    for row in rows:
        where = f"{row.episode} step {row.step} turn {row.turn}"
        if len(row.token_ids) != len(row.weights):
            raise UsageError(f"{where}: {len(row.token_ids)} tokens, {len(row.weights)} weights")
        if not np.all(np.isfinite(row.weights)) or np.any(row.weights < 0):
            raise UsageError(f"{where}: token weights must be finite and not negative")
        if not (np.isfinite(row.share) and row.share > 0):
            raise UsageError(f"{where}: a conversation's share must be above 0, got {row.share}")
        if not np.any(row.weights > 0) or row.weights[0] > 0:
            raise UsageError(f"{where}: at least one token must be trained, and never the first")


def _digest(rows: Sequence[Conversation]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        place = f"{row.episode}/{row.step}/{row.turn}/{row.seed}/{len(row.token_ids)}"
        digest.update(place.encode())
        digest.update(np.float32(row.share).tobytes())
        digest.update(row.token_ids.astype("<i4").tobytes())
        digest.update(row.weights.astype("<f4").tobytes())
    return digest.hexdigest()


def _as_row(row: Conversation) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in _COLUMNS.names}
    fields["messages"] = [{"role": role, "content": text} for role, text in row.messages]
    return fields


def _from_row(fields: dict[str, Any]) -> Conversation:
    logprobs = fields.pop("logprobs")
    return Conversation(
        token_ids=np.asarray(fields.pop("token_ids"), np.int32),
        weights=np.asarray(fields.pop("weights"), np.float32),
        logprobs=None if logprobs is None else np.asarray(logprobs, np.float32),
        messages=tuple((m["role"], m["content"]) for m in fields.pop("messages")),
        **fields,
    )
