"""Prometheus metrics of one replica. No tenant, no episode and no text appears in a label.

With several replicas behind one port a scrape reaches any one of them; Ray's own metrics have the
sums of Serve.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """See the module's docstring."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "automem_requests",
            "requests by route and status",
            ["route", "method", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "automem_request_seconds",
            "time from the request's arrival to its last byte",
            ["route"],
            buckets=_LATENCIES,
            registry=registry,
        )
        self.under_way = Gauge(
            "automem_requests_under_way", "requests being answered", registry=registry
        )
        self._tokens = Counter(
            "automem_tokens",
            "tokens by what they were for (chat, act) and kind (prompt, cached, completion)",
            ["use", "kind"],
            registry=registry,
        )
        self._acts = Counter(
            "automem_acts",
            "acts by policy version and outcome",
            ["policy", "kind"],
            registry=registry,
        )
        self._loaded = Gauge(
            "automem_episodes_loaded",
            "episodes that this replica holds between acts; open ones may be in none",
            registry=registry,
        )
        self._calls = Gauge(
            "automem_engine_calls",
            "model calls in the engine, those of other replicas with it included where they share "
            "it: waiting for room, running",
            ["state"],
            registry=registry,
        )
        self._aliases = Gauge(
            "automem_alias_revision",
            "revision at which this replica has an alias, and the version it names there",
            ["alias", "version"],
            registry=registry,
        )
        self._behind = Gauge(
            "automem_alias_problems",
            "aliases that could not follow the registry",
            registry=registry,
        )

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def count_tokens(self, use: str, prompt: int, cached: int, completion: int) -> None:
        """A model has answered."""
        for kind, number in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            self._tokens.labels(use, kind).inc(number)

    def count_act(self, policy: str, kind: str) -> None:
        """An act was answered: `new` or `replayed`."""
        self._acts.labels(policy, kind).inc()

    def page(
        self,
        loaded: int,
        aliases: dict[str, tuple[str, int]],
        problems: int,
        waiting: int,
        running: int,
    ) -> bytes:
        """The page as Prometheus reads it. `aliases`: alias to (version, revision); `waiting` and
        `running`: calls in the engine."""
        self._loaded.set(loaded)
        self._calls.labels("waiting").set(waiting)
        self._calls.labels("running").set(running)
        self._behind.set(problems)
        self._aliases.clear()
        for alias, (version, revision) in aliases.items():
            self._aliases.labels(alias, version).set(revision)
        return generate_latest(self._registry)
