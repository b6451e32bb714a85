"""The trace's events: what an episode was, in the order in which it happened.

These types are the schema of the journal (one JSON line each), of the Parquet tables made from it
and of everything that reads a trace. Additions need a default; any other change needs a new
`SCHEMA` and a step in `automem.trace.migrate`.

Texts longer than `INLINE_CHARS` are stored once per episode as a `Blob` and named by digest
(`"b:" + 32 hex digits`), so a static prompt prefix costs its length once.
"""

from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from automem.memory.ops import AnyOp, Edit, OpResult

SCHEMA = 1
TOOL_CAUSE = "tool"
"""What tables and stories call the cause of a change that a `ToolUsed` made."""
INLINE_CHARS = 96


class Routine(StrEnum):
    """What a turn belongs to."""

    LOG = "log"
    """Record what the last action did."""
    PLAN = "plan"
    """Consult memory, then commit one game action."""


class Role(StrEnum):
    """Who answers a turn."""

    MEMORY = "memory"
    GAMEPLAY = "gameplay"


class CommitSource(StrEnum):
    """Where a committed action came from."""

    MODEL = "model"
    """The gameplay role committed it by itself."""
    FORCED = "forced"
    """Committed after the session said that only a commit is accepted now."""
    FALLBACK = "fallback"
    """The model would not commit: the world's fallback action."""


class StopReason(StrEnum):
    """Why an episode ended."""

    SOLVED = "solved"
    """The world ended it with progression 1."""
    TERMINATED = "terminated"
    """The world ended it otherwise (death, a lost game)."""
    CAP = "cap"
    """`max_steps` reached."""
    TRUNCATED = "truncated"
    """The world cut it off (no progress, its own limit)."""
    PLAYER_FAILED = "player_failed"
    """Agent, scaffold or hook failed: counts with what was reached."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The world's answer to an action (or to `reset`, where `action` is empty)."""

    progression: float
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    invalid_action: bool = False
    action: str = ""
    """The action as committed, which the world answered."""
    info: dict[str, Any] = {}

    @property
    def is_final(self) -> bool:
        return self.terminated or self.truncated


class EpisodeStarted(msgspec.Struct, frozen=True, tag="episode", tag_field="kind"):
    """First record: what is played, by whom. Everything that decides the trace is here."""

    schema: int
    episode: str
    world: str
    """Name of the world, e.g. `crafter`."""
    seed: int
    replicate: int
    run_seed: int
    max_steps: int
    policy: str
    """Policy version: base model, scaffold version, adapter version."""
    scaffold: str
    """Digest of the scaffold folder."""
    instruction: str
    fallback_action: str


class Attempt(msgspec.Struct, frozen=True, tag="attempt", tag_field="kind"):
    """Opens each segment chain: one attempt of one process at the episode.

    `parent_epoch` and `parent_records` say which records of the attempt before are kept: all that
    an older process wrote after that never happened."""

    epoch: int
    parent_epoch: int
    parent_records: int
    host: str
    pid: int
    time: float


class Blob(msgspec.Struct, frozen=True, tag="blob", tag_field="kind"):
    """A text stored once; named by `digest` elsewhere."""

    digest: str
    text: str


class Observed(msgspec.Struct, frozen=True, tag="observe", tag_field="kind", omit_defaults=True):
    """A step begins: the world has answered. Step 0 follows `reset`."""

    step: int
    observation: str
    """Text or blob name."""
    changed: bool
    """Whether the observation differs from the last one."""
    outcome: Outcome
    world_s: float = 0.0
    """Seconds in the world (volatile)."""
    time: float = 0.0
    key: str = ""
    """Idempotency key of the served API."""


class Gated(msgspec.Struct, frozen=True, tag="gate", tag_field="kind", omit_defaults=True):
    """What the memory gate decided for the step, before it took effect (`automem.agent.gating`)."""

    step: int
    log: str
    """`skip`, `brief` or `full`."""
    consult: str
    by: str
    """The gate's name; `fallback` where it had failed."""
    features: list[float] = []
    """What it decided on."""


class Turn(msgspec.Struct, frozen=True, tag="turn", tag_field="kind", omit_defaults=True):
    """One model call and what it gave.

    The full prompt, as (role, text or blob name) pairs, is the first `shared` messages of the full
    prompt of turn `base_turn` of the same step (-1: none) and then those of `prompt`."""

    step: int
    turn: int
    """Counts from 0 within the step, over both routines."""
    routine: Routine
    role: Role
    prompt: list[tuple[str, str]]
    completion: str
    kept: int = -1
    """Characters of the completion that stay in the context (-1: all)."""
    base_turn: int = -1
    shared: int = 0
    adapter: str = ""
    token_ids: list[int] | None = None
    prompt_ids: str = ""
    """Digest (16 hex digits) of the prompt's token ids, for token engines."""
    logprobs: list[float] | None = None
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    malformed: list[str] = []
    """What could not be parsed, as answered to the model."""
    forced: bool = False
    """The context overflowed, so that only a commit was accepted."""
    seconds: float = 0.0
    """Wall time of the call (volatile)."""
    tool_calls: list[dict[str, str]] = []


class OpDone(msgspec.Struct, frozen=True, tag="op", tag_field="kind", omit_defaults=True):
    """One operation of a turn, in text order; written before it is applied."""

    step: int
    turn: int
    index: int
    op: AnyOp
    result: OpResult
    edit: Edit | None = None
    """The change it makes; None where memory stays as it was."""
    chain: str = ""
    """Hash of the chain of edits up to this one (16 hex digits); empty without an edit."""


class MemoryChanged(msgspec.Struct, frozen=True, tag="memory", tag_field="kind"):
    """A change that no operation made: initial files, pruning, a hook."""

    step: int
    cause: str
    edit: Edit
    chain: str


class ToolUsed(msgspec.Struct, frozen=True, tag="tool", tag_field="kind", omit_defaults=True):
    """Memory was changed between two steps by a command from outside (the served memory tool): one
    record per command, with all its edits, so that a death leaves it done or not done."""

    step: int
    """The step that comes next."""
    command: str
    """Its name, such as `str_replace`."""
    answer: str
    edits: list[Edit]
    chain: str
    """Hash of the chain of edits up to the last of them."""
    key: str = ""
    """Idempotency key of the served API."""
    body: str = ""
    """Digest of the command: the same key must come with the same."""
    time: float = 0.0


class Committed(msgspec.Struct, frozen=True, tag="commit", tag_field="kind", omit_defaults=True):
    """The step's game action. Where this is the last record, the world is (or hung) in it."""

    step: int
    action: str
    source: CommitSource
    reasoning: str = ""
    """Digest-free text of the committing turn before the action."""
    time: float = 0.0


class Failed(msgspec.Struct, frozen=True, tag="failure", tag_field="kind", omit_defaults=True):
    """A boundary broke. `is_infrastructure` failures leave the episode pending."""

    step: int
    boundary: str
    error: str
    is_infrastructure: bool
    time: float = 0.0


class Ended(msgspec.Struct, frozen=True, tag="end", tag_field="kind", omit_defaults=True):
    """Last record of a finished episode."""

    stop: StopReason
    progression: float
    steps: int
    """Actions that the world executed."""
    detail: str = ""
    """The world's own word for the end, or the player's error."""
    time: float = 0.0


Event: TypeAlias = (
    EpisodeStarted
    | Attempt
    | Blob
    | Observed
    | Gated
    | Turn
    | OpDone
    | MemoryChanged
    | ToolUsed
    | Committed
    | Failed
    | Ended
)

VOLATILE = {
    "attempt": None,
    "failure": None,
    "observe": ("world_s", "time"),
    "turn": ("seconds", "cached_tokens"),
    "commit": ("time",),
    "tool": ("time",),
    "end": ("time",),
}
"""Fields that two runs of the same seeds may differ in; None: the whole record."""
