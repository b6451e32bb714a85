"""Engines from plain data: a `_target_` and its arguments, built where they are used."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from automem.engine.protocol import Engine
from automem.errors import AutoMemError, UsageError


def build_engine(target: Mapping[str, Any]) -> Engine:
    """An engine in this process; UsageError where its target or arguments are wrong."""
    try:
        engine: Engine = instantiate(dict(target), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, AutoMemError):
            raise error.__cause__ from error
        raise UsageError(f"engine {target.get('_target_')}: {error}") from error
    return engine
