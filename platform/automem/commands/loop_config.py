"""What the commands that run a loop share: its configuration, and how it tells what it does.

Promise: a loop that has begun is continued from its own folder's configuration, whatever the tree
says by now; a part or a value that does not fit is a `UsageError` with the key's name.
"""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from automem.commands.play import CONFIG_FILE
from automem.config import check, compose, groups, parse_overrides
from automem.errors import AutoMemError, UsageError
from automem.loops.begun import check_same, flat
from automem.rollout.durably import replace_file
from automem.rollout.spec import RolloutSpec
from automem.suggest import no_such

MAY_CHANGE = ("run.dir", "tracker", "storage", "sweep", "placement", "rollout", "finalize")
"""Keys of every loop that decide nothing: one that has begun goes on with others."""
DECIDES = ("rollout.max_steps",)
"""What does decide below one of those."""


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
    change(loaded, overrides)
    check(loaded)
    return loaded


def change(config: DictConfig, overrides: Sequence[str]) -> None:
    """Set, add or delete what the words say, in a composed tree."""
    for item in parse_overrides(overrides):
        if not item.is_delete():
            OmegaConf.update(config, item.key_or_group, item.value())
            continue
        parent, _, name = item.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is not None and name in node:
            with open_dict(node):
                del node[name]


def keep_config(
    config: DictConfig,
    folder: Path,
    has_begun: bool,
    may_change: Collection[str],
    decides: Collection[str] = DECIDES,
) -> None:
    """Write a loop's configuration into its folder, whole or not at all. Of one that has begun only
    the keys `may_change`, and what is below them, may differ from what is kept there (UsageError),
    but for those that `decides` names; a key that this version brought along is taken as it is."""
    path = folder / CONFIG_FILE
    if has_begun and path.is_file():
        kept = OmegaConf.load(path)
        before, now = (_deciding(each, may_change, decides) for each in (kept, config))
        check_same(folder, before, {name: now[name] for name in before if name in now})
    replace_file(path, OmegaConf.to_yaml(config).encode(), fsync=False)


def _deciding(config: Any, may_change: Collection[str], decides: Collection[str]) -> dict[str, Any]:
    """Dotted keys to values, those left out that may change."""
    leaves = flat(OmegaConf.to_container(config, resolve=True))
    return {
        name: value
        for name, value in leaves.items()
        if _is_below(name, decides) or not _is_below(name, may_change)
    }


def _is_below(name: str, keys: Collection[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def check_base_memory(template: RolloutSpec) -> None:
    """UsageError where the base of a loop has no files to keep."""
    memory = template.agent.get("memory", "files")
    if memory != "files":
        raise UsageError(
            f"agent.memory={memory}: the loops improve memory that the model keeps in files, so "
            "they play agent.memory=files; automem run compares other memories, by its `rivals`"
        )


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
