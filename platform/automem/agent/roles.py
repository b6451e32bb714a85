"""Who answers: each role is an engine with an optional adapter and its sampling."""

import hashlib

import msgspec

from automem.agent.conversation import Counter, Renderer
from automem.agent.gating.decision import GateOptions
from automem.agent.gating.keeper import gate_label
from automem.agent.hooks import HOOK_MODES
from automem.agent.memories.options import AUTOMATIC, MEMORIES, RIVALS, RecallOptions
from automem.engine.protocol import Engine, Sampling
from automem.errors import UsageError
from automem.suggest import no_such
from automem.trace.events import Role


class RoleBinding(msgspec.Struct, frozen=True):
    """One role's model."""

    engine: Engine
    counter: Counter
    renderer: Renderer | None = None
    """None for chat engines."""
    adapter: str | None = None
    sampling: Sampling = Sampling()
    context_tokens: int = 0
    """Window of the engine; 0 where unknown (then nothing is forced by length)."""


class Roles(msgspec.Struct, frozen=True):
    """The two roles. The gameplay role never carries an adapter (an invariant)."""

    memory: RoleBinding
    gameplay: RoleBinding

    def __post_init__(self) -> None:
        if self.gameplay.adapter is not None:
            raise ValueError("the gameplay role is the untouched base: it takes no adapter")

    def binding(self, role: Role) -> RoleBinding:
        return self.memory if role is Role.MEMORY else self.gameplay


class AgentOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a session runs, beside scaffold and roles."""

    dialect: str = "tags"
    """`tags` or `tools`."""
    protocol: str = "two_roles"
    """`two_roles` (hand-over before each commit) or `one_role` (the memory role commits)."""
    memory: str = "files"
    """`files`; or, as controls, `none` (no LOG, no consulting, no file is ever shown) and `blanked`
    (every file is back at its initial content when a step begins); or a rival of the files
    (`automem.agent.memories`): `window`, `full`, `bm25`, `summary`."""
    recall: RecallOptions = RecallOptions()
    """How a rival of the files is set up."""
    knowledge: str = ""
    """Knowledge of the task, put at the end of what is static in every prompt, whatever the
    memory."""
    hooks: str = "isolated"
    """How a scaffold's hooks.py runs: `isolated` or not at all, `unprotected` (with this user's
    rights: for own code), or `off`."""
    gate: str = ""
    """Who decides at each step how much memory work is done: nobody (all of it), a rule of
    `automem.agent.gating.rules`, or the folder of a learned gate."""
    gating: GateOptions = GateOptions()
    """How a rule is set up."""
    guided: bool = False
    """Keep every turn to whole operations of the scaffold's vocabulary, by a grammar; for engines
    that are `guided`."""
    call_deadline_s: float = 120.0
    cache_salt: str = ""

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise UsageError(no_such("agent.memory", self.memory, MEMORIES))
        if self.hooks not in HOOK_MODES:
            raise UsageError(no_such("agent.hooks", self.hooks, HOOK_MODES))
        if self.gate and (self.protocol != "two_roles" or self.memory not in ("files", "blanked")):
            raise UsageError(
                "agent.gate needs agent.memory=files and agent.protocol=two_roles: elsewhere there "
                "is no LOG or no consulting of its own to decide about"
            )
        if self.guided and self.dialect != "tags":
            raise UsageError("agent.guided=true needs agent.dialect=tags: calls have no grammar")

    @property
    def has_memory(self) -> bool:
        """Whether there are files that the model keeps."""
        return self.memory != "none" and self.memory not in AUTOMATIC

    @property
    def additions(self) -> list[str]:
        """What a policy's name says of these options: rival memory, knowledge, gate."""
        rival = [self.memory] if self.memory in RIVALS else []
        knowledge = hashlib.blake2b(self.knowledge.encode(), digest_size=4).hexdigest()
        gate = [gate_label(self.gate, self.gating)] if self.gate else []
        return [*rival, *([f"knowledge@{knowledge}"] if self.knowledge else []), *gate]
