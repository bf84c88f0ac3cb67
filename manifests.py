"""Objects as files: written one to a file, read from any YAML or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.objects import Manifest, reference
from model.invalid import InvalidInput

_SUFFIXES = {".yaml", ".yml", ".json"}
INDEX = ".voicemesh-rendered"
"""File in a rendered directory that lists what was written there, a path each line."""


def write(objects: Sequence[Manifest], directory: Path) -> list[Path]:
    """Writes every object to DIRECTORY/KIND/NAMESPACE/NAME.yaml and removes stale files.

    Only files that an earlier call wrote are removed. An object without namespace lies directly
    under its kind. Kinds are in lower case, as kubectl takes them.

    Raises:
        InvalidInput: the directory holds something else than an earlier rendering.
    """
    index = directory / INDEX
    if directory.exists() and not index.is_file() and any(directory.iterdir()):
        raise InvalidInput(
            f"--out {directory}: the directory holds files that are not from an earlier render;"
            " name a new or empty one"
        )
    earlier = _earlier(index)
    texts = {str(place(one)): dump(one) for one in objects}
    if len(texts) < len(objects):
        raise AssertionError(f"two objects share one place: {_repeated(objects)}")
    directory.mkdir(parents=True, exist_ok=True)
    # The index first: a render that is cut off can still be replaced by the next one.
    index.write_text("\n".join(sorted(earlier | set(texts))) + "\n", encoding="utf-8")
    for name in earlier - set(texts):
        stale = directory / name
        stale.unlink(missing_ok=True)
        for folder in stale.parents:
            if folder == directory or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
    for name, text in texts.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    index.write_text("\n".join(sorted(texts)) + "\n", encoding="utf-8")
    return [directory / name for name in texts]


class Skipped(NamedTuple):
    """A file below a directory that holds nothing a cluster takes."""

    file: str
    reason: str


class Found(NamedTuple):
    """What files hold."""

    objects: list[Manifest]
    skipped: list[Skipped]


def read(paths: Iterable[Path]) -> list[Manifest]:
    """All objects in files and below directories, in the order of the paths; a List gives its items.

    Raises:
        InvalidInput: a path is not there, or a file holds something else than Kubernetes objects.
    """
    return [
        found
        for path in paths
        for file in _files(path)
        for found in _objects(_documents(file), str(file))
    ]


def scan(paths: Iterable[Path]) -> Found:
    """Like `read`, but names the files below a directory that hold no objects, and goes on.

    Those are other tools' files (values, kustomizations, charts) and templates. A file that is
    named itself, one that mixes objects with other things and one that has the marks of a manifest
    and can't be read are errors: what they hold can't be told to be harmless.

    Raises:
        InvalidInput: one of these.
    """
    found = Found([], [])
    for path in paths:
        for file in _files(path):
            held = _held(file) if path.is_dir() else _documents(file)
            if isinstance(held, str):
                found.skipped.append(Skipped(str(file), held))
            else:
                found.objects.extend(_objects(held, str(file)))
    return found


_MARKS = (
    re.compile(r"""(?m)(?:^|[\s{,])["']?apiVersion["']?[ \t]*:"""),
    re.compile(r"""(?m)(?:^|[\s{,])["']?kind["']?[ \t]*:"""),
)
_DIRECTIVE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_LINE_OF_DIRECTIVES = re.compile(r"(?m)^[ \t]*(?:(?:\{\{.*?\}\}|\{%.*?%\})[ \t]*)+$")


def _held(file: Path) -> list[Any] | str:
    """The documents of a file that holds objects, or should; otherwise why it holds none."""
    try:
        text = _text_of(file)
    except InvalidInput:
        if b"apiVersion" in file.read_bytes().replace(b"\0", b""):
            raise
        return "it is no text"
    if _DIRECTIVE.search(text) and _of_a_chart(file):
        return "a chart's template: render it first (helm template)"
    try:
        documents = _parsed(file, text)
    except InvalidInput:
        if all(mark.search(text) for mark in _MARKS) and not _is_template(file, text):
            raise
        return "a template: render it first" if _DIRECTIVE.search(text) else "it can't be read"
    if any(_looks_like_one(document) for document in documents):
        return documents
    return "it holds no Kubernetes object"


def _of_a_chart(file: Path) -> bool:
    """Whether a file lies among the templates of a Helm chart."""
    return any(p.name == "templates" and (p.parent / "Chart.yaml").is_file() for p in file.parents)


def _is_template(file: Path, text: str) -> bool:
    """Whether directives are all that keeps a text from being YAML."""
    filled = _DIRECTIVE.sub("x", _LINE_OF_DIRECTIVES.sub("", text))
    try:
        _parsed(file, filled)
    except InvalidInput:
        return False
    return filled != text


def _looks_like_one(document: Any) -> bool:
    """Whether a document is an object, or was meant to be: what has no metadata no cluster takes."""
    return isinstance(document, dict) and (
        ("kind" in document and ("metadata" in document or "items" in document))
        or ("apiVersion" in document and "metadata" in document)
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not path.exists():
        raise InvalidInput(f"{path}: no such file or directory")
    return [path]


def _documents(file: Path) -> list[Any]:
    return _parsed(file, _text_of(file))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{file} can't be read: {problem}") from problem


def _parsed(file: Path, text: str) -> list[Any]:
    # JSON is YAML, but one that a library for JSON reads many times faster.
    try:
        if file.suffix == ".json":
            return [json.loads(text)]
        return list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as problem:
        raise InvalidInput(f"{file} is not YAML: {problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"{file} can't be read: {problem}") from problem


def _objects(documents: Iterable[Any], file: str) -> Iterator[Manifest]:
    for number, document in enumerate(documents, start=1):
        if document is not None:
            yield from _of_document(document, f"{file}, document {number}")


def _of_document(document: Any, where: str) -> Iterator[Manifest]:
    if not isinstance(document, dict) or "kind" not in document or "apiVersion" not in document:
        raise InvalidInput(f"{where} is no Kubernetes object: it needs apiVersion and kind")
    if str(document["kind"]).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _of_document(item, where)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise InvalidInput(f"{where}: {document['kind']} has no metadata.name")
    if not metadata.get("name"):
        # The cluster completes the name; a check needs one to speak of.
        yield {**document, "metadata": {**metadata, "name": metadata["generateName"]}}
    else:
        yield document


def _earlier(index: Path) -> set[str]:
    """What an earlier call wrote; a line that leads out of the directory was not written by one."""
    if not index.is_file():
        return set()
    names = index.read_text(encoding="utf-8").splitlines()
    return {n for n in names if n and not Path(n).is_absolute() and ".." not in Path(n).parts}


def place(manifest: Manifest) -> Path:
    """Where an object's file lies below the directory."""
    metadata = manifest["metadata"]
    folder = Path(manifest["kind"].lower())
    if namespace := metadata.get("namespace"):
        folder /= namespace
    return folder / f"{metadata['name']}.yaml"


def dump(manifest: Manifest) -> str:
    """An object as YAML: apiVersion, kind and metadata first, every run the same text."""
    ordered: Manifest = {key: manifest[key] for key in ("apiVersion", "kind", "metadata")}
    text: str = yaml.dump({**ordered, **manifest}, Dumper=_Dumper, sort_keys=False, width=100)
    return text


class _Dumper(yaml.CSafeDumper):
    """Block style, text over several lines as a literal block, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


_READ_OTHERWISE = re.compile(r"[yYnN]|[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+|0o[0-7_]+")
"""Texts that PyYAML writes without quotes and kubectl's reader takes for a boolean or a number."""


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _READ_OTHERWISE.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _repeated(objects: Sequence[Manifest]) -> str:
    names = [reference(one) for one in objects]
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))
