"""What can break, one exception per boundary.

An exception is raised where the boundary broke and recorded once, by the rollout. Two families
decide what happens to the episode:

- *infrastructure* (`InfrastructureError`): nobody playing is to blame. Never an action, never a
  score: retried until a deadline, then the episode is *pending* and can be resumed.
- *player* (`PlayerError`): the agent, its scaffold or a hook failed. The episode ends with what it
  has reached and counts.

`UsageError` is bad input at the edge, shown to a person as one message without a traceback.
"""


class AutoMemError(Exception):
    """Base of every exception that this package raises on purpose."""


class UsageError(AutoMemError):
    """A person asked for something that cannot be done; the message says what to do instead."""


class InfrastructureError(AutoMemError):
    """Something that the agent does not control broke; the episode stays resumable."""

    boundary = "infrastructure"


class EngineError(InfrastructureError):
    """An engine gave no completion: refused, timed out, died, or answered nonsense."""

    boundary = "engine"


class EngineRequestError(EngineError):
    """The engine rejects this request as such (context too long, unknown adapter): no retry."""


class WorldError(InfrastructureError):
    """An environment raised, hung, or did not replay to the state that the journal recorded."""

    boundary = "world"


class StoreError(InfrastructureError):
    """Journal, trace or storage could not be read or written (a full disk, a corrupt record)."""

    boundary = "store"


class LeaseLostError(StoreError):
    """A newer attempt owns this episode; this one must stop without writing anything more."""

    boundary = "lease"


class PlayerError(AutoMemError):
    """The agent's side failed; the episode ends with the progression it has."""

    boundary = "agent"


class ScaffoldError(PlayerError):
    """A scaffold is invalid or does not render; the message names the file and the place."""

    boundary = "scaffold"


class SandboxError(AutoMemError):
    """A memory directory cannot be opened or has been tampered with beyond use.

    Bad *operations* do not raise: they are answered with an error result that the model reads.
    """

    boundary = "sandbox"
