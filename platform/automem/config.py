"""The configuration tree: composed by Hydra, checked before any time is spent.

Promise: what `compose` returns holds known keys only, with values of the right kind and in range;
anything else is a `UsageError` that says what was expected and names the nearest right word. The
shipped tree is the live `conf/` of a checkout, or `automem/conf` of an installed wheel; a folder of
the user's own is searched first. Not covered: whether a `_target_` likes its arguments; the part
itself says so when it is built.

`DictConfig` stops at the command line: everything below it gets plain data.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from automem.errors import UsageError
from automem.seeds import SeedRange, range_of
from automem.suggest import did_you_mean, no_such

SCAFFOLD = "scaffold"
"""A folder of the tree and a plain key: its entries are scaffolds, not options of a Hydra group."""
_NAMES = {"proficiency": (SCAFFOLD, "selector")}
"""Trees in which more keys hold a name: a proficiency loop's recipes look the selector up."""


def conf_dir() -> Path:
    """The shipped tree: beside this file in a wheel, at the repository's root in a checkout."""
    here = Path(__file__).resolve()
    packaged = here.parent / "conf"
    return packaged if packaged.is_dir() else here.parents[2] / "conf"


def search_path(config_dir: Path | str | None = None) -> list[Path]:
    """Folders that hold configuration, the user's own first."""
    if config_dir is None:
        return [conf_dir()]
    user = Path(config_dir).expanduser().resolve()
    if not user.is_dir():
        raise UsageError(f"--config-dir {config_dir}: there is no such folder")
    return [user, conf_dir()]


def groups(config_dir: Path | str | None = None) -> dict[str, list[str]]:
    """Every group of the tree with its options, e.g. `env` -> [`concentration`, `crafter`]."""
    found: dict[str, set[str]] = {}
    for root in search_path(config_dir):
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            options = {path.stem for path in folder.glob("*.yaml")}
            if options and folder.name != SCAFFOLD:
                found.setdefault(folder.name, set()).update(options)
    return {name: sorted(options) for name, options in found.items()}


def scaffolds(config_dir: Path | str | None = None) -> dict[str, Path]:
    """Every scaffold of the tree by name; the user's own hides a shipped one of the same name."""
    found: dict[str, Path] = {}
    for root in reversed(search_path(config_dir)):
        for folder in sorted((root / SCAFFOLD).glob("*/")):
            if not folder.name.startswith((".", "_")):
                found[folder.name] = folder
    return found


def scaffold_path(name: str, config_dir: Path | str | None = None) -> Path:
    """Folder of a scaffold, from its name or its path."""
    known = scaffolds(config_dir)
    if name in known:
        return known[name]
    own = Path(name).expanduser()
    if own.is_dir():
        return own.resolve()
    raise UsageError(no_such("scaffold", name, known) + " (or give the path of a folder)")


def compose(
    config_name: str = "config",
    overrides: Sequence[str] = (),
    config_dir: Path | str | None = None,
) -> DictConfig:
    """The tree `config_name` with `overrides` (`key=value`, Hydra's grammar), checked."""
    parsed = parse_overrides(overrides)
    options = groups(config_dir)
    _check_group_options(parsed, options)
    names = _NAMES.get(config_name, (SCAFFOLD,))
    groups_here = set(options) - set(names)
    choices = [item for item in parsed if item.get_key_element() in groups_here]
    choices += _own_preset(config_name, choices, options)
    values = [item for item in parsed if item.get_key_element() not in groups_here]
    with _hydra_errors():
        _check_values(values, _load(config_name, choices, config_dir), options, config_name)
        plain = [item for item in values if item.key_or_group not in names]
        config = _load(config_name, [*choices, *plain], config_dir)
        for item in values:
            if item.key_or_group in names:
                config[item.key_or_group] = item.value()
        if key := next(filter(partial(_is_missing, config), keys_of(config)), None):
            raise UsageError(f"{key} has to be given: add {key}=...")
        OmegaConf.set_struct(config, True)
        OmegaConf.resolve(config)
    check(config)
    if config.get(SCAFFOLD):
        scaffold_path(config[SCAFFOLD], config_dir)
    return config


def _own_preset(
    config_name: str, choices: list[Override], options: dict[str, list[str]]
) -> list[Override]:
    """An experiment may change a command's own keys too: `conf/<command>/<experiment>.yaml`."""
    chosen = [str(item.value()) for item in choices if item.get_key_element() == "experiment"]
    is_there = bool(chosen) and chosen[-1] in options.get(config_name, ())
    return parse_overrides([f"{config_name}={chosen[-1]}"]) if is_there else []


def known_keys(
    config_name: str, overrides: Sequence[str], config_dir: Path | str | None = None
) -> list[str]:
    """Every key that the tree has under these choices of groups; other overrides are ignored."""
    options = groups(config_dir)
    choices = [word for word in overrides if word.partition("=")[0] in options]
    with _hydra_errors():
        return list(keys_of(_load(config_name, parse_overrides(choices), config_dir)))


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's grammar; a UsageError with an example where a word does not fit it."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            raise UsageError(
                f"cannot read {text!r}: expected key=value, for example rollout.workers=2\n"
                f"{str(error).splitlines()[0]}"
            ) from error
    return parsed


def keys_of(config: DictConfig) -> Iterator[str]:
    """Every dotted key, inner ones included; what an interpolation leads to is not followed."""
    yield from _keys_in(OmegaConf.to_container(config, resolve=False))


def _keys_in(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, inner in node.items():
            yield f"{prefix}{name}"
            yield from _keys_in(inner, f"{prefix}{name}.")


def _is_missing(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_missing(node, name)


def _load(config_name: str, overrides: list[Override], config_dir: Path | str | None) -> DictConfig:
    """Hydra's composition over our search path.

    Its public `initialize_config_dir` wants the root config in the first folder, and a user's
    folder may hold a single file of one group; so the loader underneath it is used."""
    Plugins.instance()  # finds the readers of file:// and pkg://
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    for number, folder in enumerate(search_path(config_dir)):
        path.append(f"automem-{number}", f"file://{folder}")
    path.append("schema", "structured://")
    lines = [str(item.input_line) for item in overrides]
    config = ConfigLoaderImpl(path).load_configuration(config_name, lines, RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def _hydra_errors() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UsageError(f"the configuration does not compose: {error}") from error


def _check_group_options(parsed: list[Override], options: dict[str, list[str]]) -> None:
    for item in parsed:
        group = item.get_key_element()
        if item.is_sweep_override():
            raise UsageError(f"{item.input_line}: several values are a sweep; add -m to play them")
        if group in options and item.value() not in options[group]:
            raise UsageError(no_such(group, str(item.value()), options[group]))


def _check_values(
    values: list[Override], base: DictConfig, options: dict[str, list[str]], config_name: str
) -> None:
    command = "rollout" if config_name == "config" else config_name
    known = list(keys_of(base))
    for item in values:
        key = item.key_or_group
        if item.is_add() or item.is_force_add() or item.is_delete():
            continue
        if key not in known:
            guess = did_you_mean(key, [*known, *options]) or "."
            raise UsageError(
                f"unknown key {key!r}{guess} `automem {command} --show` prints every key"
            )
        if key not in CHECKS:
            _check_kind(key, item.value(), OmegaConf.select(base, key, throw_on_missing=False))


def _check_kind(key: str, value: Any, default: Any) -> None:
    """A value must be of its default's kind, where the default tells one."""
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        ListConfig: ((list,), "a list such as [1,2]"),
        DictConfig: ((dict,), "a mapping such as {name: value}"),
    }
    if type(default) not in kinds or value is None:
        return
    allowed, words = kinds[type(default)]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise UsageError(f"{key} must be {words}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Check:
    """What a key may hold: `accepts` decides, `expected` says it in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _whole(at_least: int, is_optional: bool = False) -> Check:
    def accepts(value: Any) -> bool:
        if value is None:
            return is_optional
        return type(value) is int and value >= at_least

    words = f"a whole number of at least {at_least}"
    return Check(accepts, words + (" (or null)" if is_optional else ""))


def _number(at_least: float, at_most: float = math.inf) -> Check:
    words = f"a number of at least {at_least:g}"
    if at_most < math.inf:
        words = f"a number from {at_least:g} to {at_most:g}"
    return Check(lambda value: type(value) in (int, float) and at_least <= value <= at_most, words)


def _one_of(*names: str) -> Check:
    return Check(lambda value: value in names, f"one of {', '.join(names)}")


PLAYABLE_RANGES = tuple(name.value for name in SeedRange if name is not SeedRange.FINAL)
"""Ranges that a rollout may name; `final` is read by `automem finalize` only."""


def _are_seeds(value: Any) -> bool:
    if value is None or (isinstance(value, str) and value in PLAYABLE_RANGES):
        return True
    is_list = isinstance(value, list | ListConfig) and len(value) > 0
    return is_list and all(
        type(seed) is int and seed >= 0 and range_of(seed) is not SeedRange.FINAL for seed in value
    )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # ValueError where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


_TEXT = Check(lambda value: isinstance(value, str) and bool(value), "a name")
_OPTIONAL_TEXT = Check(
    lambda value: value is None or (isinstance(value, str) and "\0" not in value), "text or null"
)

CHECKS: dict[str, Check] = {
    SCAFFOLD: _TEXT,
    "specialist": _OPTIONAL_TEXT,
    "run.dir": _OPTIONAL_TEXT,
    "run.seed": _whole(0),
    "rollout.seeds": Check(
        _are_seeds,
        f"a list such as [42,43], null or one of {', '.join(PLAYABLE_RANGES)} (seeds of the "
        "range final are read by `automem finalize` only)",
    ),
    "rollout.episodes": _whole(1, is_optional=True),
    "rollout.max_steps": _whole(1, is_optional=True),
    "rollout.workers": _whole(0),
    "rollout.worker_cpus": _number(0.0),
    "rollout.sessions_per_worker": _whole(1),
    "rollout.segment_steps": _whole(1),
    "rollout.segment_s": _number(0.0),
    "rollout.deadlines.call_s": _number(0.001),
    "rollout.deadlines.step_s": _number(0.001),
    "rollout.deadlines.patience_s": _number(0.0),
    "rollout.deadlines.world_attempts": _whole(1),
    "rollout.watchdog.silent_s": _number(0.001),
    "rollout.watchdog.start_s": _number(0.001),
    "rollout.watchdog.strikes": _whole(1),
    "rollout.watchdog.straggler_s": _number(0.0),
    "engine.base_url": Check(
        lambda value: value is None or _is_address(str(value)),
        "an address such as http://127.0.0.1:8000/v1",
    ),
    "engine.sampling.temperature": _number(0.0),
    "engine.sampling.top_p": _number(0.0, 1.0),
    "engine.sampling.max_tokens": _whole(1),
    "engine.placement": _one_of("actor", "worker"),
    "agent.dialect": _one_of("tags", "tools"),
    "agent.protocol": _one_of("two_roles", "one_role"),
    "agent.memory": _one_of("files", "none", "blanked", "window", "full", "bm25", "summary"),
    "agent.recall.tokens": _whole(1, is_optional=True),
    "agent.recall.entries": _whole(1),
    "agent.knowledge": _OPTIONAL_TEXT,
    "agent.hooks": _one_of("isolated", "unprotected", "off"),
}
"""Keys whose values are checked beyond their default's kind, wherever they were set."""


def check(config: DictConfig) -> None:
    """Refuse values that no run could use; UsageError names the key."""
    for key, rule in CHECKS.items():
        missing = object()
        value = OmegaConf.select(config, key, default=missing)
        if value is missing:
            continue
        if not rule.accepts(value):
            raise UsageError(f"{key} must be {rule.expected}, got {_plain(value)!r}")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
