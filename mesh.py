"""The composition, written once: which components make the mesh, with what, in which order.

`__main__.py` registers these parts with the engine; rendering, policies and lab read their objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.component import ComponentArgs, MeshComponent
from components.objects import Declared
from model.access import Catalogue
from model.settings import Settings
from model.stack_file import adapted


@dataclass(frozen=True)
class Part:
    """One component of the mesh, with its arguments and what must be there before it."""

    name: str
    component: type[MeshComponent[Any]]
    args: ComponentArgs
    after: tuple[str, ...] = ()

    def objects(self) -> tuple[Declared, ...]:
        """What the component declares, without registering anything."""
        return self.component.build(self.args)


def parts(stack: str, settings: Settings, catalogue: Catalogue) -> tuple[Part, ...]:
    """The whole mesh of one stack, each part after those it depends on."""
    return tuple(_parts(stack, settings, adapted(catalogue, settings)))


def _parts(stack: str, settings: Settings, catalogue: Catalogue) -> Iterator[Part]:
    """Order: namespaces, control-plane, authentication, authorization, services, rate-limit, edge,
    telemetry, then one part per service, gateway, monitoring."""
    yield from ()
