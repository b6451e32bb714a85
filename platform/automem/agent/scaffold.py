"""A scaffold: the versioned folder of data that defines an agent's memory.

`scaffold.yaml` declares files, operations per routine, limits and notices; five Jinja2 templates
word the prompts: `log.system.j2`, `log.j2`, `plan.system.j2`, `plan.j2`, `commit.j2`. System
templates see only what is static in an episode, so that they form a prefix that engines can cache.

Promise: a scaffold that loads renders; every error names the file and the place. Templates run in
Jinja2's sandbox with undefined names refused. *Not* covered: a template that prints without end;
scaffolds that are not shipped have to be rendered in a process that can be killed.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import msgspec
import yaml

from automem.errors import ScaffoldError, UsageError
from automem.memory.ops import OPS

TEMPLATES = ("log.system", "log", "plan.system", "plan", "commit")


class FileSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One memory file as the scaffold defines it."""

    name: str
    purpose: str = ""
    """One line for the model: what belongs here."""
    initial: str = ""
    separator: str = ": "
    """Between key and text of lines written by UPSERT."""
    show_last: int = 0
    """Lines from the end shown in every PLAN; -1 shows the whole file."""
    keep_last: int = 0
    """Longest the file may be, in lines: older ones are pruned after each LOG; 0 keeps all."""


class RoutineSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a routine may do."""

    ops: tuple[str, ...]
    """Vocabulary: names of operations, in the order in which prompts list them."""
    max_turns: int = 10
    """Model calls before the routine is ended (the paper's 10)."""


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line put into the prompt when something the agent could see for itself holds."""

    when: str
    """`unchanged` (the observation), `repeated` (the same action) or `oscillating` (a, b, a, b)."""
    steps: int = 2
    """For at least so many steps in a row."""
    text: str = ""


class ScaffoldSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`scaffold.yaml`."""

    name: str
    files: tuple[FileSchema, ...]
    log: RoutineSchema
    plan: RoutineSchema
    commit_turns: int = 3
    """Gameplay calls after the hand-over before the world's fallback is taken."""
    ops_per_turn: int = 16
    result_tokens: int = 1024
    """Cap of one result, in tokens."""
    result_lines: int = 400
    description: str = ""
    notices: tuple[Notice, ...] = ()
    max_files: int = 32
    max_file_bytes: int = 1_000_000
    max_total_bytes: int = 4_000_000


NOTICE_KINDS = ("unchanged", "repeated", "oscillating")


class Scaffold:
    """A loaded scaffold: its schema, its templates, its digest."""

    def __init__(self, schema: ScaffoldSchema, templates: Mapping[str, str]) -> None:
        self.schema = schema
        self.sources = dict(templates)
        _check(schema)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self._templates: dict[str, jinja2.Template] = {}
        for name in TEMPLATES:
            if name not in self.sources:
                raise ScaffoldError(f"scaffold {schema.name!r} lacks the template {name}.j2")
            try:
                self._templates[name] = environment.from_string(self.sources[name])
            except jinja2.TemplateSyntaxError as error:
                raise ScaffoldError(
                    f"scaffold {schema.name!r}, {name}.j2 line {error.lineno}: {error.message}"
                ) from error

    @cached_property
    def digest(self) -> str:
        """Content hash (16 hex digits): the scaffold's version."""
        parts = [msgspec.json.encode(self.schema)]
        parts += [f"{name}\0{text}".encode() for name, text in sorted(self.sources.items())]
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
        try:
            return self._templates[template].render(values).rstrip()
        except Exception as error:
            raise ScaffoldError(
                f"scaffold {self.schema.name!r}, {template}.j2 does not render: {error}"
            ) from error


def load_scaffold(folder: Path) -> Scaffold:
    """Load and validate a scaffold folder."""
    path = folder / "scaffold.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is no scaffold: it has no scaffold.yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        schema = msgspec.convert(data, ScaffoldSchema)
    except yaml.YAMLError as error:
        raise ScaffoldError(f"{path}: not valid YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise ScaffoldError(f"{path}: {error}") from error
    templates = {
        name: (folder / f"{name}.j2").read_text(encoding="utf-8")
        for name in TEMPLATES
        if (folder / f"{name}.j2").is_file()
    }
    return Scaffold(schema, templates)


def _check(schema: ScaffoldSchema) -> None:
    """What types cannot say."""
    where = f"scaffold {schema.name!r}"
    for routine, part in (("log", schema.log), ("plan", schema.plan)):
        unknown = [op for op in part.ops if op not in OPS]
        if unknown:
            raise ScaffoldError(
                f"{where}, {routine}.ops: no operation {unknown[0]!r}; there are {', '.join(OPS)}"
            )
        if part.max_turns < 1:
            raise ScaffoldError(f"{where}, {routine}.max_turns must be at least 1")
    names = [file.name for file in schema.files]
    if len(set(names)) < len(names):
        raise ScaffoldError(f"{where}: two files of the same name")
    if schema.commit_turns < 1:
        raise ScaffoldError(f"{where}: commit_turns must be at least 1")
    for notice in schema.notices:
        if notice.when not in NOTICE_KINDS:
            raise ScaffoldError(
                f"{where}: no notice {notice.when!r}; there are {', '.join(NOTICE_KINDS)}"
            )
