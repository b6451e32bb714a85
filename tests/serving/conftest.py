"""Replicas to test with: a scripted player of Concentration behind the real application."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.served_policy import Server, make_served_spec, serving

from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer

os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
"""Of Ray's 5 s a busy machine takes more: the proxy is then killed while it starts."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A replica whose engine plays by script, with perfect memory habits."""
    engine = ScriptedEngine(PerfectMemoryPlayer())
    async with serving(make_served_spec(tmp_path), engine) as running:
        yield running
