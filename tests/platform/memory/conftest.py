"""A sandbox opened by each way of following paths, and something that carries operations out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automem.memory.beneath import WalkMethod, default_method
from automem.memory.execute import Executor, ResultLimits
from automem.memory.ops import AnyOp, OpResult
from automem.memory.sandbox import Quota, Sandbox

Do = Callable[[AnyOp], OpResult]


@pytest.fixture(params=list(WalkMethod))
def method(request: pytest.FixtureRequest) -> WalkMethod:
    """Both ways of following a path, where the kernel has both."""
    wanted: WalkMethod = request.param
    if wanted is WalkMethod.OPENAT2 and default_method() is not WalkMethod.OPENAT2:
        pytest.skip("this kernel (or container) has no openat2")
    return wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the memory folder is."""
    return tmp_path / "memory"


@pytest.fixture
def sandbox(folder: Path, method: WalkMethod) -> Iterator[Sandbox]:
    """An empty sandbox with small quotas."""
    opened = Sandbox.open(
        folder, Quota(files=6, file_bytes=2_000, total_bytes=5_000), method=method
    )
    yield opened
    opened.close()


@pytest.fixture
def do(sandbox: Sandbox) -> Do:
    """Plan an operation and apply its edit, as a session does."""
    executor = Executor(sandbox, ResultLimits(chars=400, lines=10), {"cards.txt": " "})

    def carry_out(op: AnyOp) -> OpResult:
        result, edit = executor.plan(op)
        if edit is not None:
            sandbox.apply(edit)
        return result

    return carry_out
