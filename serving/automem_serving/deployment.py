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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automem.engine.build import build_engine
from automem.engine.health import health_of
from automem.engine.protocol import Engine
from automem.errors import EngineError, UsageError
from automem.registry import Registry
from automem_serving.policies import Policies
from automem_serving.settings import ServedSpec, is_loopback

APPLICATION = "automem"
_END_S = 30.0


class Replica:
    """One process that answers; Ray Serve asks it for its ASGI application."""

    def __init__(self, spec: ServedSpec, engine: Engine | None, import_path: Sequence[str]) -> None:
        sys.path.extend(path for path in import_path if path not in sys.path)
        self._spec = spec
        self._engine = engine

    def __serve_build_asgi_app__(self) -> Any:
        from automem_serving.app import build_app
        from automem_serving.context import Context

        if self._engine is None:
            self._engine = build_engine(self._spec.engine.target)
        return build_app(Context(self._spec, self._engine))

    async def check_health(self) -> None:
        """Ray Serve asks this every few seconds, and replaces a replica whose own engine is lost
        for good. What comes back by itself (a shared engine's actor, say) is waited for."""
        if self._engine is None:
            return
        health = await health_of(self._engine)
        if health.needs_new_process:
            raise EngineError(health.problem)


@contextmanager
def serving(spec: ServedSpec, lent: Any = None) -> Iterator[str]:
    """The application is up inside; gives its address. Ray is up. `lent`: an engine's actor that
    runs already and stays, instead of one of its own. Where Serve runs already, its own address is
    used and it stays. UsageError where the port is taken, or where the current policy cannot be
    served."""
    settings = spec.settings.check()
    found = _running_serve(spec)
    host, port = found or (settings.host, settings.port)
    if found is None:
        _check_port(host, port)
    engine = lent or _shared_engine(spec)
    try:
        if engine is not None:
            asyncio.run(check_policy(spec, engine))
        with _deployed(spec, engine, is_started=found is not None):
            yield f"http://{_shown(host)}:{port}"
    finally:
        if engine is not None and engine is not lent:
            engine.shutdown()


def _running_serve(spec: ServedSpec) -> tuple[str, int] | None:
    """Where the Serve of this Ray listens; None where none runs. UsageError where this application
    may not be put there."""
    from ray import serve
    from ray.serve.context import _check_cached_client_alive, _get_global_client

    _check_cached_client_alive()  # or that of a Serve that has gone is asked
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    host, port = client.http_config.host, client.http_config.port
    if host is None:
        raise UsageError("Ray Serve runs on this cluster without HTTP: `serve shutdown` first")
    if spec.settings.auth == "none" and not is_loopback(host):
        raise UsageError(
            f"Ray Serve listens on {host}:{port} already, where everybody could get in without "
            "authentication: use serving.auth=tokens, or `serve shutdown` first"
        )
    if APPLICATION in serve.status().applications:
        raise UsageError(
            f"a policy is served on this Ray already, at http://{_shown(host)}:{port}: use it, or "
            "stop it first (with Ctrl-C where it was started; after a kill with `serve shutdown`)"
        )
    return host, port


@contextmanager
def _deployed(spec: ServedSpec, engine: Any, is_started: bool) -> Iterator[None]:
    """`is_started`: Serve runs already, and stays."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if not is_started:
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
        if not is_started and not serve.status().applications:
            _end_serve()


def _end_serve() -> None:
    """As `serve.shutdown`, but done when this returns and without its words on the terminal. Who
    starts Serve anew while the old one still goes loses what is started."""
    import ray

    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    ray.get(controller.graceful_shutdown.remote(wait=False))
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
        if not any(name.startswith("SERVE_") for name in names):
            return
        time.sleep(0.05)


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
