"""What a served policy is, as plain data: small, picklable, sent to every replica.

Promise: settings that would expose an unprotected server are refused: without authentication the
host must be loopback.
"""

import ipaddress
from typing import Any, Literal

import msgspec

from automem.errors import UsageError
from automem.rollout.spec import EngineSpec


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request or one tenant may take. Rates are per replica."""

    body_bytes: int = 1_000_000
    body_s: float = 10.0
    """A request's body has to arrive within this."""
    requests_per_s: float = 50.0
    """Of one tenant, in the long run."""
    burst: int = 100
    """Of one tenant, at once."""
    open_episodes: int = 256
    """Unfinished episodes of one tenant."""
    stored_bytes: int = 2_000_000_000
    """What one tenant may keep: journals, memory and tables of its episodes."""
    observation_chars: int = 100_000
    max_steps: int = 10_000
    """The longest an episode may be asked for."""
    completion_tokens: int = 4096


class Autoscaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ray Serve's autoscaling of replicas."""

    min_replicas: int = 1
    max_replicas: int = 4
    target_ongoing_requests: float = 64.0


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many processes answer, and what each may take."""

    count: int = 1
    autoscaling: Autoscaling | None = None
    """Instead of `count`."""
    max_ongoing_requests: int = 256
    """Of one replica; what comes beyond waits in the proxy."""
    num_cpus: float = 0.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`conf/serving/`."""

    name: str
    host: str
    port: int
    auth: Literal["tokens", "none"]
    """`none`: everybody who reaches the port is the tenant `local`; on loopback only."""
    dir: str
    """Folder of episodes and tokens: every replica has to reach it."""
    registry: str
    """Folder of policy versions and aliases."""
    limits: Limits = Limits()
    replicas: Replicas = Replicas()
    poll_s: float = 1.0
    """How often a replica looks whether an alias has moved."""
    act_s: float = 300.0
    """One act: every model call of its LOG and PLAN."""
    call_s: float = 120.0
    """One model call."""
    takeover_s: float = 15.0
    """A replica that holds an episode and gives no sign of life for so long (stopped) loses it."""
    loaded_episodes: int = 512
    """Episodes that a replica keeps open between acts; others are read from their journal again."""
    fsync: bool = False
    """Acts survive power cuts, not only kills."""

    def check(self) -> "Settings":
        """These settings, or UsageError where they may not be served."""
        if self.auth == "none" and not is_loopback(self.host):
            raise UsageError(
                f"serving.host={self.host} without authentication would let everybody in: use "
                "serving.auth=tokens (make one with `automem token`), or serving.host=127.0.0.1"
            )
        if not 0 < self.port < 65536:
            raise UsageError(f"serving.port must be a port from 1 to 65535, got {self.port}")
        return self


class WorldText(msgspec.Struct, frozen=True):
    """What an agent has to be told about a world that the caller plays at the other end."""

    instruction: str
    fallback_action: str
    max_steps: int


class ServedSpec(msgspec.Struct, frozen=True):
    """Everything that a replica is built from."""

    settings: Settings
    engine: EngineSpec
    sampling: dict[str, Any]
    """Fields of `automem.engine.protocol.Sampling` for the agent's calls."""
    agent: dict[str, Any]
    """Fields of `automem.agent.roles.AgentOptions`."""
    scaffolds: dict[str, str]
    """Registered scaffolds: name to folder."""
    worlds: dict[str, WorldText]
    """Registered worlds."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
