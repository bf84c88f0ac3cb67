"""YAML and JSON kept as text (a file of a ConfigMap, an annotation): where its secrets stand.

A document says by its structure what is a secret, whatever its quotes, blocks and line ends are.
So it is read, what would be hidden of it as an object is hidden, and what went is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from diff.secret_names import HINT
from diff.secret_texts import Span

DEEPEST = 60
"""Levels of a document that are read; a deeper one is taken as plain text."""


@dataclass
class _Node:
    """A value of a document, and where it is written."""

    start: int
    end: int
    value: Any = None
    children: list[tuple[str, _Node]] = field(default_factory=list)


def places(
    text: str, clean: Callable[[Any], Any], spans: Callable[[str], Sequence[Span]], mark: str
) -> Iterator[Span]:
    """Where the document in a text holds what `clean` hides of it; nothing if it is none.

    `clean` gives the same value with `mark` for its secrets, with the same keys and as many
    entries; `spans` tells what of a text it hides.
    """
    if ":" not in text or not HINT.search(text):
        return
    try:
        documents = list(_documents(text))
    except (yaml.YAMLError, ValueError, UnicodeError):
        return
    for document in documents:
        if document.children:
            for node, cleaned in _changed(document, clean(document.value)):
                parts = () if cleaned == mark else spans(node.value)
                yield from _pieces(text, node, parts)


def _documents(text: str) -> Iterator[_Node]:
    """The documents of a text, from the parser's events: those of any depth are read safely."""
    open_nodes: list[tuple[_Node, list[_Node]]] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            node = _Node(_at(event.start_mark), 0, {})
            node.value = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            open_nodes.append((node, []))
            if len(open_nodes) > DEEPEST:
                raise ValueError("too deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            node, entries = open_nodes.pop()
            node.end = _at(event.end_mark)
            _fill(node, entries)
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(_at(event.start_mark), _at(event.end_mark), _scalar(event))
        elif isinstance(event, yaml.AliasEvent):
            node = _Node(_at(event.start_mark), _at(event.end_mark))
        else:
            continue
        if open_nodes:
            open_nodes[-1][1].append(node)
        else:
            yield node


def _at(mark: Any) -> int:
    """Where in the text a mark of the parser stands, in characters."""
    index: int = mark.index
    return index


def _fill(node: _Node, entries: list[_Node]) -> None:
    if isinstance(node.value, list):
        node.value.extend(entry.value for entry in entries)
        node.children.extend(("", entry) for entry in entries)
        return
    pairs = zip(entries[::2], entries[1::2], strict=True)
    for place, (key, entry) in enumerate(pairs):
        name = str(key.value)
        # A key that is there twice is read twice: the later one would hide the earlier.
        if name in node.value:
            name = f"{place}-{name}"
        node.value[name] = entry.value
        node.children.append((name, entry))


def _scalar(event: yaml.ScalarEvent) -> Any:
    value: str = event.value
    if event.style is not None:
        return value
    if value in ("true", "false"):
        return value == "true"
    if value in ("", "null", "~"):
        return None
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else value


def _changed(node: _Node, cleaned: Any) -> Iterator[tuple[_Node, Any]]:
    if node.children and isinstance(cleaned, dict | list):
        parts = cleaned if isinstance(cleaned, list) else [cleaned[n] for n, _ in node.children]
        for (_, child), part in zip(node.children, parts, strict=True):
            yield from _changed(child, part)
    elif cleaned != node.value:
        yield node, cleaned


def _pieces(text: str, node: _Node, parts: Sequence[Span]) -> Iterator[Span]:
    """Where the parts of a value stand; without any, the value.

    Parts which can't be found as they are (they stand with a quote or an indentation between) take
    the whole value with them.
    """
    start, end = _bare(text, node)
    found = [(part, text.find(node.value[part.start : part.end], start, end)) for part in parts]
    if not found or any(at < 0 for _, at in found):
        yield Span(start, end)
        return
    for part, at in found:
        yield Span(at, at + part.end - part.start)


def _bare(text: str, node: _Node) -> tuple[int, int]:
    """Where a value stands without the space after it and the quotes around it."""
    start = node.start
    end = start + len(text[start : node.end].rstrip())
    if end - start > 2 and text[start] == text[end - 1] and text[start] in "\"'":
        return start + 1, end - 1
    return start, end
