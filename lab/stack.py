"""What the stack's own code says about the control plane, for the lab that stands in for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.objects import HelmRelease
from mesh import parts
from model import stack_file
from model.catalogue import catalogue


def istiod_values(stack: str) -> Mapping[str, Any]:
    """The istiod chart's values of a stack, as if the stack installed istiod itself.

    A stack that is deployed to the lab leaves the control plane to it; the values are made all the
    same, by the code that makes them for production. Raises InvalidInput for a bad stack file.
    """
    services = catalogue()
    settings = stack_file.load(stack, services)
    control_plane = settings.control_plane.model_copy(update={"mode": "install"})
    installing = settings.model_copy(update={"control_plane": control_plane})
    for part in parts(stack, installing, services):
        for declared in part.objects() if part.name == "control-plane" else ():
            if isinstance(declared, HelmRelease) and declared.chart == "istiod":
                return declared.values
    raise AssertionError("no part of the stack is the istiod release")
