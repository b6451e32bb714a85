"""Names of models that the project itself provides; every other name passes through.

`embedded` is the small checkpoint shipped with the package; `random` is an untrained byte-level
model for plumbing tests, built where it is asked for.
"""

import importlib
from pathlib import Path

from automem.errors import UsageError

EMBEDDED = Path(__file__).parent.parent / "assets" / "embedded"


def resolve(name: str) -> str:
    """The folder or hub name to load `name` from."""
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise UsageError(
                f"the embedded model is not in this installation (expected {EMBEDDED}): "
                "make it with `automem pretrain`, or set engine.model to another model"
            )
        return str(EMBEDDED)
    if name == "random":
        builder = importlib.import_module("automem.engine.random_model")
        return str(builder.build())
    return name
