"""Names of models that the project itself provides; every other name passes through.

`embedded` and `crafter_small` are the small checkpoints shipped with the package, the players of
Concentration and of Crafter; `random` is an untrained byte-level model for plumbing tests, built
where it is asked for. Among specialists, `shipped` is the one that was trained on `embedded`.
"""

import hashlib
import importlib
import json
import threading
from pathlib import Path

from automem.errors import UsageError

LOADING = threading.RLock()
"""Held around every use of transformers' import and `from_*`: they set the default dtype and device
of the process for a while, and the package's lazy import is not made for two threads."""
EMBEDDED = Path(__file__).parent.parent / "assets" / "embedded"
CRAFTER_SMALL = EMBEDDED.with_name("crafter_small")
SHIPPED = {
    "embedded": (EMBEDDED, "automem pretrain"),
    "crafter_small": (CRAFTER_SMALL, "automem crafter-policy"),
}
"""Folder of each shipped model, and the command that makes it."""


def resolve(name: str) -> str:
    """The folder or hub name to load `name` from."""
    if name in SHIPPED:
        folder, command = SHIPPED[name]
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"the model {name!r} is not in this installation (expected {folder}): "
                f"make it with `{command}`, or set engine.model to another model"
            )
        return str(folder)
    if name == "random":
        builder = importlib.import_module("automem.engine.random_model")
        return str(builder.build())
    return name


SHIPPED_SPECIALIST = EMBEDDED.with_name("specialist")


def find_adapter(name: str) -> tuple[str, str]:
    """Name and PEFT folder of a specialist, from `shipped` or its folder: a training's (it has a
    card, `adapter.json`) or any PEFT one. UsageError where there is none."""
    folder = SHIPPED_SPECIALIST if name == "shipped" else Path(name).expanduser().resolve()
    card = folder / "adapter.json"
    try:
        if card.is_file():
            fields = json.loads(card.read_bytes())
            return str(fields["name"]), str(folder / fields["path"])
        weights = (folder / "adapter_model.safetensors").read_bytes()
        (folder / "adapter_config.json").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"there is no specialist at {name!r}: expected `shipped`, a folder with adapter.json "
            "as `automem proficiency` writes it, or a PEFT folder with adapter_config.json and "
            f"adapter_model.safetensors ({type(error).__name__})"
        ) from None
    return f"{folder.name}-{hashlib.blake2b(weights, digest_size=4).hexdigest()}", str(folder)
