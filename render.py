"""Rendering: the same composition as `__main__.py`, as plain objects and as files.

No engine, no cluster. Helm releases are expanded into what the charts make of their values;
generated secrets are left out, objects refer to them by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import charts
import mesh
from components.objects import Declared, GeneratedSecret, HelmRelease, Manifest
from lab.toolchain.charts import charts as istio_charts
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue as declared_catalogue

SYNC_WAVE = "argocd.argoproj.io/sync-wave"


def declared(stack: str, catalogue: Catalogue | None = None) -> list[Declared]:
    """Everything the stack declares, in the order it is deployed.

    Raises:
        InvalidInput: the stack file or the catalogue is wrong.
    """
    catalogue = catalogue or declared_catalogue()
    settings = stack_file.load(stack, catalogue)
    return [item for part in mesh.parts(stack, settings, catalogue) for item in part.objects()]


def objects(stack: str, catalogue: Catalogue | None = None) -> list[Manifest]:
    """All objects of the stack as they reach the API server, in the order they are deployed.

    Raises:
        InvalidInput: the stack file or the catalogue is wrong.
    """
    return list(expanded(declared(stack, catalogue)))


def in_waves(stack: str) -> list[Manifest]:
    """All objects, each with the Argo CD sync wave that keeps the order of deployment.

    What depends on something is in a later wave; Argo CD waits for a wave to be healthy before it
    goes on. Source: https://argo-cd.readthedocs.io/en/stable/user-guide/sync-waves/

    Raises:
        InvalidInput: the stack file or the catalogue is wrong.
    """
    catalogue = declared_catalogue()
    settings = stack_file.load(stack, catalogue)
    last: dict[str, int] = {}
    placed: list[Manifest] = []
    for part in mesh.parts(stack, settings, catalogue):
        wave = max((last[name] for name in part.after), default=-1) + 1
        items = part.objects()
        releases = [item for item in items if isinstance(item, HelmRelease)]
        for item in items:
            # Releases of one component stand in the order they need each other.
            own = wave + (releases.index(item) if isinstance(item, HelmRelease) else 0)
            placed += [_in_wave(one, own) for one in expanded([item])]
        last[part.name] = wave + max(len(releases) - 1, 0)
    return placed


def _in_wave(manifest: Manifest, wave: int) -> Manifest:
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), SYNC_WAVE: str(wave)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def expanded(items: Iterable[Declared]) -> Iterator[Manifest]:
    """Plain objects: releases by what their charts render, generated secrets not at all."""
    for item in items:
        match item:
            case HelmRelease():
                yield from charts.expand(item, istio_charts())
            case GeneratedSecret():
                continue
            case _:
                yield item
