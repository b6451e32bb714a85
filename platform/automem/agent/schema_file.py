"""Reading `scaffold.yaml`: plain data, and where in the file each of its keys stands.

Promise: whatever the file holds, reading ends quickly, with data or with a ScaffoldError that names
file, line and key. Written by strangers too: aliases (a few lines of which unfold to gigabytes),
keys given twice, huge and deeply nested files are refused.
"""

import re
from pathlib import Path
from typing import TypeAlias

import msgspec
import yaml

from automem.agent.schema import FileSchema, Notice, PruneRule, RoutineSchema, ScaffoldSchema
from automem.errors import ScaffoldError
from automem.suggest import did_you_mean

MAX_BYTES = 128_000
"""Of scaffold.yaml; initial contents included."""

Key: TypeAlias = tuple[str | int, ...]
"""A place in the data: `("files", 0, "name")`."""

_PATH = re.compile(r" - at `\$?([^`]*)`$")
_PATH_PART = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]")
_UNKNOWN_FIELD = re.compile(r"contains unknown field `([^`]*)`")


def spell(key: Key) -> str:
    """`files[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


class SchemaFile:
    """A read `scaffold.yaml`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[Key, int] = {}
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ScaffoldError(f"{path}: larger than {MAX_BYTES} bytes; shorten it")
            text = data.decode()
            self._refuse_aliases(text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self._place(root, ())
            self._data = yaml.safe_load(text)
        except UnicodeDecodeError as error:
            raise ScaffoldError(f"{path}: not UTF-8 text") from error
        except RecursionError as error:
            raise ScaffoldError(f"{path}: too deeply nested") from error
        except (yaml.YAMLError, ValueError) as error:
            raise ScaffoldError(f"{path}: not valid YAML: {error}") from error

    def schema(self) -> ScaffoldSchema:
        """The typed schema; ScaffoldError where a key is unknown, missing or of another type."""
        try:
            return msgspec.convert(self._data, ScaffoldSchema)
        except msgspec.ValidationError as error:
            raise self._invalid(str(error)) from error

    def error(self, key: Key, message: str) -> ScaffoldError:
        """A ScaffoldError that says where."""
        place = key
        while place and place not in self._lines:
            place = place[:-1]
        line = self._lines.get(place, 1)
        where = f", {spell(key)}" if key else ""
        return ScaffoldError(f"{self._path} line {line}{where}: {message}")

    def _invalid(self, message: str) -> ScaffoldError:
        """msgspec's error with the line of what it speaks of."""
        found = _PATH.search(message)
        words = _PATH.sub("", message)
        key: Key = ()
        for name, index in _PATH_PART.findall(found[1] if found else ""):
            key += (name,) if name else ((int(index),) if index.isdigit() else ())
        unknown = _UNKNOWN_FIELD.search(words)
        if unknown:
            key += (unknown[1],)
            words = f"there is no such key{did_you_mean(unknown[1], _all_keys()) or ''}"
        return self.error(key, words)

    def _refuse_aliases(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1
                raise ScaffoldError(f"{self._path} line {line}: aliases (*name) are not allowed")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 12:
                raise ScaffoldError(f"{self._path}: too deeply nested")

    def _place(self, node: yaml.Node, key: Key) -> None:
        self._lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                inner = (*key, str(name.value))
                if inner in self._lines:
                    line = name.start_mark.line + 1
                    raise ScaffoldError(f"{self._path} line {line}, {spell(inner)}: given twice")
                self._lines[inner] = name.start_mark.line + 1
                self._place(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._place(value, (*key, index))


def _all_keys() -> list[str]:
    structs = (ScaffoldSchema, FileSchema, RoutineSchema, Notice, PruneRule)
    return sorted({name for struct in structs for name in struct.__struct_fields__})
