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
