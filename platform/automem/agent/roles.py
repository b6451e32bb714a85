"""Who answers: each role is an engine with an optional adapter and its sampling."""

import msgspec

from automem.agent.conversation import Counter, Renderer
from automem.agent.hooks import HOOK_MODES
from automem.engine.protocol import Engine, Sampling
from automem.errors import UsageError
from automem.suggest import no_such
from automem.trace.events import Role

MEMORIES = ("files", "none", "blanked")
"""What `AgentOptions.memory` may be."""


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
    """The two roles. The gameplay role never carries an adapter (DESIGN invariant 8)."""

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
    (every file is back at its initial content when a step begins)."""
    hooks: str = "isolated"
    """How a scaffold's hooks.py runs: `isolated` or not at all, `unprotected` (with this user's
    rights: for own code), or `off`."""
    call_deadline_s: float = 120.0
    cache_salt: str = ""

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise UsageError(no_such("agent.memory", self.memory, MEMORIES))
        if self.hooks not in HOOK_MODES:
            raise UsageError(no_such("agent.hooks", self.hooks, HOOK_MODES))

    @property
    def has_memory(self) -> bool:
        """Whether there are files to keep and to consult."""
        return self.memory != "none"
