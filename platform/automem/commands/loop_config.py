"""What the commands that run a loop share: its configuration, and how it tells what it does.

Promise: a loop that has begun is continued from its own folder's configuration, whatever the tree
says by now; a part or a value that does not fit is a `UsageError` with the key's name.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from automem.commands.play import CONFIG_FILE
from automem.config import check, compose, groups, parse_overrides
from automem.errors import AutoMemError, UsageError
from automem.suggest import no_such


def begun_or_new(
    command: str, mark: str, overrides: list[str], config_dir: str | None
) -> DictConfig:
    """The composed tree of `command`; of a loop that has begun, its own with the values that stand
    beside. `mark`: a key that only this command's configuration has."""
    config = compose(command, overrides, config_dir)
    kept = Path(config.run.dir or "").expanduser() / CONFIG_FILE
    if not config.run.dir or not kept.is_file():
        return config
    loaded = OmegaConf.load(kept)
    if not isinstance(loaded, DictConfig) or mark not in loaded:
        raise UsageError(
            f"{config.run.dir} was not begun by automem {command}: choose another run.dir"
        )
    parsed = parse_overrides(overrides)
    if any(item.get_key_element() in groups(config_dir) for item in parsed):
        return config  # the whole command again: whatever differs is told when it is compared
    for item in parsed:
        OmegaConf.update(loaded, item.key_or_group, item.value())
    check(loaded)
    return loaded


def teller(folder: Path) -> Callable[[str], None]:
    """Says lines on the terminal and in `log.txt`, with the time since it began."""
    began = time.monotonic()
    path = folder / "log.txt"

    def say(text: str) -> None:
        line = f"{time.monotonic() - began:6.0f} s  {text}"
        print(line, flush=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return say


def value_of(kind: Any, value: Any, name: str) -> Any:
    """`value` as a `kind`; UsageError with the key's name."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {error}, got {value!r}") from None


def struct_of(kind: type[Any], fields: dict[str, Any], name: str) -> Any:
    """A struct from a part of the configuration; UsageError names the nearest right field."""
    for field in fields:
        if field not in kind.__struct_fields__:
            raise UsageError(no_such(f"field of {name}", str(field), kind.__struct_fields__))
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{name}: {error}") from None


def built(fields: dict[str, Any], name: str, is_recursive: bool = True) -> Any:
    """The part that `_target_` names; `is_recursive`: targets inside it are built too."""
    try:
        return instantiate(fields, _convert_="all", _recursive_=is_recursive)
    except InstantiationException as error:
        if isinstance(error.__cause__, AutoMemError):
            raise error.__cause__ from error
        raise UsageError(f"{name} {fields.get('_target_')}: {error}") from error
