"""Manifests from files: every object below a directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


class UnreadableManifests(Exception):
    """A directory that is not there, or a file that holds no objects; the message says where."""


def load(directory: Path) -> list[dict[str, Any]]:
    """All objects in the YAML and JSON files below a directory, in the order of their paths.

    Raises:
        UnreadableManifests: no such directory, no manifest in it, or a file that can't be read.
    """
    if not directory.is_dir():
        raise UnreadableManifests(f"{directory}: no such directory")
    files = sorted(p for p in directory.rglob("*") if p.suffix in (".yaml", ".yml", ".json"))
    return [item for file in files for item in _objects(file)]


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text()
        documents = (
            [json.loads(text)]
            if file.suffix == ".json"
            else list(yaml.load_all(text, Loader=yaml.CSafeLoader))
        )
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise UnreadableManifests(f"{file}: {_first_line(error)}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or "kind" not in document:
            raise UnreadableManifests(f"{file}: a document is no Kubernetes object (no kind)")
        if document["kind"] == "List" or str(document["kind"]).endswith("List"):
            yield from (item for item in document.get("items") or () if isinstance(item, dict))
        else:
            yield document


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
