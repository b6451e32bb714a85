"""The application for a cluster that brings Ray up itself: `automem_serving.cluster:application`.

KubeRay's RayService (and `serve deploy`) import it and hand over `args`. Who starts Ray and chooses
the port is the cluster; each replica builds its own engine, since an actor that all share would end
with the short task that reads the configuration.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from automem.config import compose
from automem_serving.configured import served_spec
from automem_serving.deployment import application_of


class Arguments(BaseModel):
    """`args` of the application in the Serve configuration."""

    model_config = ConfigDict(extra="forbid")

    overrides: list[str] = []
    """Overrides of `conf/serve.yaml`, as one would type them after `automem serve`."""
    gpus_per_replica: float = 0.0
    """GPUs that Ray reserves for each replica's engine."""
    config_dir: str | None = None
    """A tree of one's own, searched first."""


def application(args: Arguments) -> Any:
    """A bound Serve application; UsageError where it may not be served so."""
    config = compose("serve", args.overrides, args.config_dir)
    spec = served_spec(config, args.config_dir)
    return application_of(spec, None, num_gpus=args.gpus_per_replica)
