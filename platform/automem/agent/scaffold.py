"""A scaffold: the versioned folder of data that defines an agent's memory.

`scaffold.yaml` declares files, operations per routine, limits, pruning and notices; five Jinja2
templates word the prompts: `log.system.j2`, `log.j2`, `plan.system.j2`, `plan.j2`, `commit.j2`.
System templates see only what is static in an episode, so that they form a prefix that engines can
cache. An optional `hooks.py` says what data cannot (`automem.agent.hooks`).

Promise: a scaffold that loads renders; every error names the file and the place. Templates run in
Jinja2's sandbox with undefined names refused; templates that are not shipped are not even compiled
in this process (`automem.agent.rendering`).
"""

import copy
import hashlib
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.hooks import hook_functions
from automem.agent.notices import CompiledNotice
from automem.agent.rendering import TEMPLATES, LocalRenderer, ProcessRenderer, Renderer
from automem.agent.schema import (
    FileKind,
    FileSchema,
    Notice,
    PruneRule,
    RoutineSchema,
    ScaffoldSchema,
    as_hashed,
)
from automem.agent.schema_check import problems
from automem.agent.schema_file import Key, SchemaFile, spell
from automem.errors import ScaffoldError, UsageError

__all__ = [
    "TEMPLATES",
    "FileKind",
    "FileSchema",
    "Notice",
    "PruneRule",
    "RoutineSchema",
    "Scaffold",
    "ScaffoldSchema",
    "load_scaffold",
]

HOOKS = "hooks.py"
MAX_SOURCE_BYTES = 64_000
"""Of a template, and of hooks.py."""


class Scaffold:
    """A loaded scaffold: its schema, its templates, its hooks, its digest."""

    def __init__(
        self,
        schema: ScaffoldSchema,
        templates: Mapping[str, str],
        hooks: str = "",
        is_trusted: bool = True,
    ) -> None:
        """`hooks`: the source of hooks.py. Templates of a scaffold that is not `is_trusted` are
        rendered in a process of their own. ScaffoldError where it cannot be used."""
        self.schema = schema
        self.sources = dict(templates)
        self.hooks = hooks
        try:
            self._has_parser = "parse" in hook_functions(hooks)
        except SyntaxError as error:
            where = f"scaffold {schema.name!r}, {HOOKS} line {error.lineno}"
            raise ScaffoldError(f"{where}: {error.msg}") from error
        for key, message in problems(schema, self._has_parser):
            raise _Misfit(key, f"scaffold {schema.name!r}, {spell(key)}: {message}", message)
        for name in TEMPLATES:
            if name not in self.sources:
                raise ScaffoldError(f"scaffold {schema.name!r} lacks the template {name}.j2")
        make = LocalRenderer if is_trusted else ProcessRenderer
        self.renderer: Renderer = make(schema.name, self.sources)

    def with_schema(self, schema: ScaffoldSchema) -> "Scaffold":
        """The same templates and hooks over another (valid) schema; itself where it is the same."""
        if schema == self.schema:
            return self
        other = copy.copy(self)
        for derived in ("digest", "notices"):
            other.__dict__.pop(derived, None)
        other.schema = schema
        return other

    @cached_property
    def digest(self) -> str:
        """Content hash (16 hex digits): the scaffold's version."""
        parts = [msgspec.json.encode(as_hashed(self.schema))]
        parts += [f"{name}\0{text}".encode() for name, text in sorted(self.sources.items())]
        if self.hooks:
            parts.append(f"{HOOKS}\0{self.hooks}".encode())
        return hashlib.blake2b(b"\0\0".join(parts), digest_size=8).hexdigest()

    @property
    def version(self) -> str:
        """`name@digest`: how policies and tables name it."""
        return f"{self.schema.name}@{self.digest}"

    @property
    def separators(self) -> dict[str, str]:
        """File name to the separator of its keyed lines."""
        return {file.name: file.separator for file in self.schema.files}

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The template's text, stripped at its end; ScaffoldError where it does not render."""
        return self.renderer.render_now(template, values)

    @cached_property
    def notices(self) -> tuple[CompiledNotice, ...]:
        """The declared notices, ready to be asked."""
        names = tuple(file.name for file in self.schema.files)
        return tuple(CompiledNotice(n, names, self._has_parser) for n in self.schema.notices)


class _Misfit(ScaffoldError):
    """A schema that cannot be used, and the key that is to blame."""

    def __init__(self, key: Key, text: str, message: str) -> None:
        super().__init__(text)
        self.key = key
        self.message = message


def load_scaffold(folder: Path) -> Scaffold:
    """Load and validate a scaffold folder."""
    path = folder / "scaffold.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is no scaffold: it has no scaffold.yaml")
    file = SchemaFile(path)
    schema = file.schema()
    templates = _templates_in(folder)
    hooks = _source(folder / HOOKS) if (folder / HOOKS).is_file() else ""
    try:
        scaffold = Scaffold(schema, templates, hooks, _are_shipped(templates))
    except _Misfit as misfit:
        raise file.error(misfit.key, misfit.message) from misfit
    scaffold.renderer.check()
    return scaffold


def _templates_in(folder: Path) -> dict[str, str]:
    paths = {name: folder / f"{name}.j2" for name in TEMPLATES}
    return {name: _source(path) for name, path in paths.items() if path.is_file()}


def _source(path: Path) -> str:
    """The text of a template or of the hooks."""
    with path.open("rb") as file:
        data = file.read(MAX_SOURCE_BYTES + 1)
    if len(data) > MAX_SOURCE_BYTES:
        raise ScaffoldError(f"{path}: larger than {MAX_SOURCE_BYTES} bytes; shorten it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ScaffoldError(f"{path}: not UTF-8 text") from error


def _are_shipped(templates: Mapping[str, str]) -> bool:
    """Whether these very templates came with this program: a run keeps a copy of its scaffold, and
    most revisions leave the wording alone."""
    return dict(templates) in _shipped_templates()


@cache
def _shipped_templates() -> tuple[dict[str, str], ...]:
    """Those of every shipped scaffold: in a wheel, or in the checkout that this runs from."""
    package = Path(__file__).resolve().parents[1]
    roots = (package / "conf" / "scaffold", package.parents[1] / "conf" / "scaffold")
    folders = [path.parent for root in roots for path in sorted(root.glob("*/scaffold.yaml"))]
    return tuple(_templates_in(folder) for folder in folders)
