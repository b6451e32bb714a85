"""NetHack that counts how many of its games are on at the same time in this process."""

from typing import Any, ClassVar

from automem_envs.nethack import NetHackWorld


class CountedNetHack(NetHackWorld):
    """See the module's docstring."""

    on: ClassVar[set[int]] = set()
    most: ClassVar[int] = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        type(self).on.add(id(self))
        type(self).most = max(type(self).most, len(type(self).on))
        return super().reset(seed=seed, options=options)

    def close(self) -> None:
        type(self).on.discard(id(self))
        super().close()
