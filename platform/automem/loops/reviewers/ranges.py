"""Numbers of a reviewer's configuration: what cannot work is told before anything is spent."""

import math
from typing import Any

from automem.errors import UsageError


def check_least(name: str, value: Any, least: float, *, may_be_null: bool = False) -> None:
    """UsageError unless `value` is a finite number of at least `least`, or null where it may be."""
    if value is None and may_be_null:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < least:
        null = " or null" if may_be_null else ""
        raise UsageError(f"reviewer.{name} must be at least {least:g}{null}, got {value!r}")
