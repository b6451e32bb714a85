"""The toy world with a temporary folder of its own, as nle has one for each game."""

import tempfile
from pathlib import Path
from typing import Any

from support.toy_world import ToyWorld


class LitteringWorld(ToyWorld):
    """Removes its folder when it is closed; `prefix` names it."""

    def __init__(self, prefix: str, **more: Any) -> None:
        super().__init__(**more)
        self._folder = tempfile.TemporaryDirectory(prefix=prefix)
        (Path(self._folder.name) / "library.so").write_bytes(bytes(1000))

    def close(self) -> None:
        self._folder.cleanup()
