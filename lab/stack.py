"""A lab for one stack: what the stack's own code says about its control plane, and its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.objects import HelmRelease
from lab.data_plane import DataPlane
from lab.lab import Lab
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


def start(lab: Lab, stack: str) -> list[str]:
    """Start what does not run of a lab for a stack, data plane included; what was started.

    Raises:
        InvalidInput: the stack file is wrong.
        ToolchainError: a program is missing and can't be built.
        LabError: a part does not get ready in time.
    """
    values = istiod_values(stack)
    data_plane = DataPlane.of_stack(lab, stack)
    started = lab.start(values["meshConfig"], values, data_plane.resume)
    return started + data_plane.start()
