"""`automem promote` and `automem rollback`: which policy version the aliases name.

They write to the registry's folder; every replica follows within a second or so: it loads the
adapter first and then switches. Servers elsewhere take `POST /v1/admin/aliases/...`.
"""

import time
from argparse import Namespace
from pathlib import Path

from automem.commands.arguments import Parser
from automem.registry import ALIASES, CURRENT, AliasMove, PolicyVersion, Registry


def promote(argv: list[str]) -> int:
    """Move an alias; without a version, show where everything stands."""
    parser = Parser(
        "promote",
        "Let an alias name a policy version. Without VERSION: list versions and aliases. With "
        "--adapter: publish it as a new version first.",
        [
            "automem promote                                     # what there is",
            "automem promote v2",
            "automem promote v3 --alias canary --share 0.1       # a tenth of new work",
            "automem promote --adapter runs/round-1/adapter --scaffold embedded",
            "automem promote --gate runs/gates/price-0.3-seed-0/gate    # a memory gate, likewise",
            "automem promote v2 --expected 4                     # only if nobody moved it since",
        ],
    )
    parser.add_argument("version", nargs="?", metavar="VERSION")
    parser.add_argument("--alias", default=CURRENT, metavar="ALIAS", help=" or ".join(ALIASES))
    parser.add_argument("--share", type=float, default=1.0, help="of new work, for canary")
    parser.add_argument("--adapter", type=Path, metavar="FOLDER", help="publish this PEFT folder")
    parser.add_argument("--gate", type=Path, metavar="FOLDER", help="... with this memory gate")
    parser.add_argument("--scaffold", default="embedded", metavar="NAME", help="of a new version")
    parser.add_argument("--model", default="embedded", metavar="NAME", help="of a new version")
    parser.add_argument("--note", default="", help="kept with a new version")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    _common(parser)
    options = parser.parse_args(argv)
    registry = _registry(options)
    if options.adapter is not None or options.gate is not None:
        from automem.config import scaffold_path

        scaffold = scaffold_path(options.scaffold, options.config_dir)
        made = registry.publish(
            options.model, scaffold, options.adapter, options.version, options.note, options.gate
        )
        print(f"published: {made.name} = {_parts(made)}")
        options.version = made.name
    if options.version is None:
        _show(registry)
        return 0
    _say(registry.promote(options.version, options.alias, options.share, options.expected))
    return 0


def rollback(argv: list[str]) -> int:
    """Undo the newest promotion of an alias."""
    parser = Parser(
        "rollback",
        "Undo the newest promotion of an alias; again: the one before. For canary: end it.",
        ["automem rollback", "automem rollback --alias canary"],
    )
    parser.add_argument("--alias", default=CURRENT, metavar="ALIAS", help=" or ".join(ALIASES))
    _common(parser)
    options = parser.parse_args(argv)
    _say(_registry(options).rollback(options.alias, options.expected))
    return 0


def _common(parser: Parser) -> None:
    parser.add_argument(
        "--expected", type=int, metavar="REVISION", help="refuse where the alias is not there"
    )
    parser.add_argument(
        "--registry", type=Path, metavar="DIR", default=Path("runs/registry"),
        help="default: runs/registry, as in conf/serving",
    )  # fmt: skip


def _registry(options: Namespace) -> Registry:
    return Registry(options.registry.expanduser())


def _say(move: AliasMove) -> None:
    to = move.version or "nothing (ended)"
    share = f" for {move.share:.0%} of new work" if 0 < move.share < 1 else ""
    how = f", taking back revision {move.undoes}" if move.undoes else ""
    print(f"{move.alias} → {to}{share}, revision {move.revision}{how}")


def _parts(version: PolicyVersion) -> str:
    parts = (version.model, version.scaffold, version.adapter, version.gate)
    return " + ".join(part for part in parts if part)


def _show(registry: Registry) -> None:
    for version in registry.versions().values():
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created))
        print(f"{version.name:<12}{day}  {_parts(version)}  {version.note}".rstrip())
    for alias, move in registry.aliases().items():
        share = f" ({move.share:.0%} of new work)" if move.share < 1 else ""
        print(f"{alias:<12}→ {move.version}{share}, revision {move.revision}, by {move.by}")
    if not registry.versions():
        print(f"no version in {registry.folder}: `automem serve` publishes the base, or --adapter")
