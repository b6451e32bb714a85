"""Dialects by name: how operations are spelled in a model's text."""

from automem.errors import UsageError
from automem.memory.dialects.base import Dialect

NAMES = ("tags", "tools")


def make_dialect(name: str) -> Dialect:
    """The dialect of that name; UsageError with those there are."""
    if name == "tags":
        from automem.memory.dialects.tags import TagsDialect

        return TagsDialect()
    if name == "tools":
        from automem.memory.dialects.tools import ToolsDialect

        return ToolsDialect()
    raise UsageError(f"no dialect {name!r}; there are {', '.join(NAMES)}")
