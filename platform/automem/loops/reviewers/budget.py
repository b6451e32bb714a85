"""What a review may cost, and what it has cost.

Promise: nothing is begun once a limit is reached. Not covered: one answer may pass a limit; what it
cost is known only afterwards.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.reviewers.interface import Spent
from automem.suggest import no_such


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one review. Seconds and calls always have a limit, so every review ends."""

    tokens: int | None = 1_000_000
    """Prompt and completion tokens of all calls; None is no limit."""
    money: float | None = None
    """In the currency of the prices; None is no limit."""
    seconds: float = 1_800.0
    calls: int = 80


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Per million tokens."""

    input: float = 0.0
    output: float = 0.0


def read_limits(limits: Mapping[str, Any], prices: Mapping[str, Any]) -> tuple[Limits, Prices]:
    """From configuration; UsageError names what is wrong."""
    found = _read("budget", limits, Limits)
    costs = _read("prices", prices, Prices)
    if found.money is not None and not (costs.input or costs.output):
        raise UsageError(
            "reviewer.budget.money needs reviewer.prices.input and reviewer.prices.output, per "
            "million tokens; without them nobody knows what a token costs"
        )
    for name in ("tokens", "money", "seconds", "calls"):
        value = getattr(found, name)
        if value is not None and value <= 0:
            raise UsageError(f"reviewer.budget.{name} must be above 0, got {value}")
    return found, costs


def _read(name: str, given: Mapping[str, Any], kind: type[Any]) -> Any:
    for key in given:
        if key not in kind.__struct_fields__:
            raise UsageError(no_such(f"key of reviewer.{name}", str(key), kind.__struct_fields__))
    try:
        return msgspec.convert(dict(given), kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"reviewer.{name}: {error}") from None


class Account:
    """One review's spending."""

    def __init__(self, limits: Limits, prices: Prices) -> None:
        self._limits, self._prices = limits, prices
        self._began = time.monotonic()
        self._tokens_in = self._tokens_out = self._calls = 0

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """One call."""
        self._calls += 1
        self._tokens_in += tokens_in
        self._tokens_out += tokens_out

    @property
    def spent(self) -> Spent:
        money = self._tokens_in * self._prices.input + self._tokens_out * self._prices.output
        return Spent(
            seconds=time.monotonic() - self._began,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            money=money / 1e6,
            calls=self._calls,
        )

    def share(self) -> tuple[float, str]:
        """How much of the tightest limit is used, 1 being all, and which it is."""
        spent, limits = self.spent, self._limits
        used = {
            f"{limits.calls} calls": spent.calls / limits.calls,
            f"{limits.seconds:g} seconds": spent.seconds / limits.seconds,
        }
        if limits.tokens is not None:
            used[f"{limits.tokens} tokens"] = (spent.tokens_in + spent.tokens_out) / limits.tokens
        if limits.money is not None:
            used[f"{limits.money:g} in money"] = spent.money / limits.money
        name = max(used, key=lambda key: used[key])
        return used[name], name

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._limits.seconds - self.spent.seconds)
