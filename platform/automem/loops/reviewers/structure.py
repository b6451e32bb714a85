"""What of a scaffold is structure: all that is left of it when its wording is taken away.

Wording is what a model reads and no program acts on: names and purposes, the text of notices, the
literal text of templates, initial contents, comments. Structure is the rest: which files of which
kind, with which rules and limits; which operations; on which conditions a notice speaks; which
values the templates print, in which order. Two scaffolds of equal structure differ in wording only.

Promise: templates are parsed and never compiled or rendered here, hooks never run. Not covered:
whether a change of structure means anything.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
import jinja2.sandbox
import msgspec
from jinja2 import nodes

from automem.agent.scaffold import TEMPLATES
from automem.agent.schema import ScaffoldSchema
from automem.errors import ScaffoldError

_VALUE_NAMES = """
    action changed observation index shown notices instruction files operations forced form
"""
VALUES = frozenset(_VALUE_NAMES.split())
"""What the program hands to templates."""

_WORDING = {"name", "description", "purpose", "initial", "text"}
"""Keys of `scaffold.yaml` that only models read, wherever they stand; so is a file's name."""


def structure_of(schema: ScaffoldSchema, sources: Mapping[str, str], hooks: str) -> Any:
    """A value that is equal for scaffolds that differ in wording only. `sources` are templates by
    name; ScaffoldError where one cannot be parsed."""
    return (
        _without_wording(msgspec.to_builtins(schema)),
        tuple(tuple(_printed(parse(name, sources.get(name, "")))) for name in TEMPLATES),
        _code(hooks),
    )


def parse(name: str, source: str) -> nodes.Template:
    """A template's syntax tree; ScaffoldError says where it is none."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise ScaffoldError(f"{name}.j2 line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError) as error:
        raise ScaffoldError(f"{name}.j2: too deeply nested") from error


def _printed(tree: nodes.Template) -> Iterator[str]:
    """Values of the program and their fields, in the order in which they stand."""
    for node in _walk(tree):
        if isinstance(node, nodes.Name) and node.ctx == "load" and node.name in VALUES:
            yield node.name
        elif isinstance(node, nodes.Getattr):
            yield f".{node.attr}"


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """Every node beneath, in the order of the text."""
    for child in node.iter_child_nodes():
        yield child
        yield from _walk(child)


def _without_wording(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_wording(v) for k, v in value.items() if k not in _WORDING}
    if isinstance(value, list | tuple):
        return [_without_wording(item) for item in value]
    return value


def _code(source: str) -> str:
    """Python without comments and docstrings."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ScaffoldError(f"hooks.py: {error}") from error
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
