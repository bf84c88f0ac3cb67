"""Message names from Istio's .proto files.

The CRDs say everything about an object but the names of its parts. Istio's documentation, error
messages and Go types call them by their protobuf message names (HTTPRoute, StringMatch), so the
generated classes do too. Only what that needs is read: messages, their nesting, their fields, and
what is deprecated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPTIONS = re.compile(r"\[[^\]]*\]")
_DEPRECATED = "[deprecated]"
_TOKEN = re.compile(r"\[deprecated\]|[\w.]+|[{}<>=;,]")


@dataclass(frozen=True)
class Message:
    """One protobuf message."""

    package: str
    path: tuple[str, ...]
    """Its name after the names of the messages around it."""
    file: str
    """Stem of the .proto file."""
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)
    """JSON name → (proto name, type as written; a map's value type)."""
    deprecated: set[str] = field(default_factory=set)
    """JSON names of deprecated fields, names of deprecated values of its enums."""

    @property
    def full_name(self) -> str:
        """Package and path, as other files refer to it."""
        return ".".join((self.package, *self.path))


class Messages:
    """All messages below one or more folders of .proto files."""

    def __init__(self, *folders: Path) -> None:
        self._by_name: dict[str, Message] = {}
        for folder in folders:
            for file in sorted(folder.rglob("*.proto")):
                for message in _messages(file):
                    self._by_name[message.full_name] = message

    def top_level(self, name: str, file: str) -> Message:
        """The message of that name in the .proto file of that stem."""
        found = [m for m in self._by_name.values() if m.path == (name,) and m.file == file]
        if len(found) != 1:
            raise LookupError(f"{len(found)} messages {name} in files {file}.proto, not one")
        return found[0]

    def type_of(self, message: Message, json_name: str) -> Message | None:
        """The message that a field holds; None where it is a scalar, an enum or from elsewhere."""
        written = message.fields[json_name][1].lstrip(".")
        scope = message.full_name.split(".")
        for depth in range(len(scope), -1, -1):
            found = self._by_name.get(".".join((*scope[:depth], written)))
            if found:
                return found
        return None


def _messages(file: Path) -> Iterator[Message]:
    tokens = _TOKEN.findall(_OPTIONS.sub(_option, _NOISE.sub(" ", file.read_text())))
    package = tokens[tokens.index("package") + 1] if "package" in tokens else ""
    yield from _block(iter(tokens), package, (), file.stem, None)


def _option(options: re.Match[str]) -> str:
    return f" {_DEPRECATED} " if re.search(r"\bdeprecated\s*=\s*true", options[0]) else " "


def _block(
    tokens: Iterator[str], package: str, path: tuple[str, ...], file: str, current: Message | None
) -> Iterator[Message]:
    """Reads up to the end of the block; yields the messages in it."""
    statement: list[str] = []
    for token in tokens:
        if token == "}":  # noqa: S105 - a token of the grammar
            return
        if token == ";":  # noqa: S105
            if current and "=" in statement and statement[0] not in {"option", "reserved"}:
                _add_field(current, statement)
            statement = []
        elif token == "{":  # noqa: S105
            if statement[:1] == ["message"]:
                message = Message(package, (*path, statement[1]), file)
                yield message
                yield from _block(tokens, package, message.path, file, message)
            elif statement[:1] == ["oneof"]:
                yield from _block(tokens, package, path, file, current)
            else:  # enum, service, a long option
                values = Message(package, path, file)
                list(_block(tokens, package, path, file, values))
                if current and statement[:1] == ["enum"]:
                    current.deprecated.update(values.deprecated)
            statement = []
        else:
            statement.append(token)


def _add_field(message: Message, statement: list[str]) -> None:
    """Of an enum's values only the deprecated ones are of interest: they go by their names."""
    *declared, name = statement[: statement.index("=")]
    json_name = re.sub(r"_(\w)", lambda match: match[1].upper(), name) if declared else name
    if _DEPRECATED in statement:
        message.deprecated.add(json_name)
    if declared:
        written = [
            token for token in declared if token not in {"repeated", "optional", "<", ">", ","}
        ]
        message.fields[json_name] = (name, written[-1])
