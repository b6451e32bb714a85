"""The Ray Serve application: replicas that answer HTTP around one engine.

An engine that is `placement: actor` is started once and shared by all replicas, which then hold no
model; one that is `placement: worker` is built in every replica. Requests that carry the header
`x-session-id` (an episode's id, say) reach the same replica as long as it lives; any other replica
can answer too, it reads the episode's journal first.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automem.engine.build import build_engine
from automem.engine.protocol import Engine
from automem.errors import UsageError
from automem.registry import Registry
from automem_serving.policies import Policies
from automem_serving.settings import ServedSpec

APPLICATION = "automem"


class Replica:
    """One process that answers; Ray Serve asks it for its ASGI application."""

    def __init__(self, spec: ServedSpec, engine: Engine | None, import_path: Sequence[str]) -> None:
        sys.path.extend(path for path in import_path if path not in sys.path)
        self._spec = spec
        self._engine = engine

    def __serve_build_asgi_app__(self) -> Any:
        from automem_serving.app import build_app
        from automem_serving.context import Context

        return build_app(
            Context(self._spec, self._engine or build_engine(self._spec.engine.target))
        )


@contextmanager
def serving(spec: ServedSpec, lent: Any = None) -> Iterator[str]:
    """The application is up inside; gives its address. Ray is up. `lent`: an engine's actor that
    runs already and stays, instead of one of its own. UsageError where its port is taken, or where
    the current policy cannot be served."""
    settings = spec.settings.check()
    _check_port(settings.host, settings.port)
    engine = lent or _shared_engine(spec)
    try:
        if engine is not None:
            asyncio.run(check_policy(spec, engine))
        with _deployed(spec, engine):
            yield f"http://{_shown(settings.host)}:{settings.port}"
    finally:
        if engine is not None and engine is not lent:
            engine.shutdown()


@contextmanager
def _deployed(spec: ServedSpec, engine: Any) -> Iterator[None]:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": spec.settings.host, "port": spec.settings.port},
        logging_config={"log_level": "WARNING"},
    )
    try:
        serve.run(application_of(spec, engine), name=APPLICATION, route_prefix="/")
        yield
    finally:
        serve.delete(APPLICATION)


def _shared_engine(spec: ServedSpec) -> Any:
    if spec.engine.placement != "actor":
        return None
    from automem.engine.replicas import start_replicas

    return start_replicas(spec.engine)


async def check_policy(spec: ServedSpec, engine: Engine) -> None:
    """UsageError, in words, for what would else fail in every replica, again and again."""
    folder = Path(spec.settings.registry).expanduser().resolve()
    await Policies(spec, Registry(folder), engine).start()


def application_of(spec: ServedSpec, engine: Any, num_gpus: float = 0.0) -> Any:
    """The bound Serve application. `num_gpus`: of each replica, where `engine` is None and each
    builds its own."""
    from ray import serve
    from ray.serve.config import RequestRouterConfig
    from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

    replicas = spec.settings.replicas
    scaling: dict[str, Any] = {"num_replicas": replicas.count}
    if replicas.autoscaling is not None:
        some = replicas.autoscaling
        scaling = {
            "autoscaling_config": {
                "min_replicas": some.min_replicas,
                "max_replicas": some.max_replicas,
                "target_ongoing_requests": some.target_ongoing_requests,
            }
        }
    router: Any = ConsistentHashRouter
    deployment: Any = serve.deployment(
        serve.ingress(None)(Replica),
        name="replica",
        max_ongoing_requests=replicas.max_ongoing_requests,
        ray_actor_options={"num_cpus": replicas.num_cpus, "num_gpus": num_gpus},
        graceful_shutdown_timeout_s=spec.settings.act_s,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=RequestRouterConfig(request_router_class=router),
        **scaling,
    )
    return deployment.bind(spec, engine, list(sys.path))


def _check_port(host: str, port: int) -> None:
    """UsageError where somebody listens there already: Ray would try for a long time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"serving.port={port} on {host} cannot be had ({error.strerror}): choose another"
            ) from error


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host
