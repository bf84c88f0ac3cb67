"""The Pulumi program: one stack's settings and the catalogue go in, the mesh comes out.

What is composed, and in which order, stands in `mesh.py`.
"""

from __future__ import annotations

import pulumi

import mesh
import stack_config
from model.catalogue import catalogue
from model.invalid import InvalidInput


def program() -> None:
    """Registers every part of the mesh, each after the parts it names.

    Raises:
        pulumi.RunError: config or catalogue say something that is not allowed.
    """
    stack = pulumi.get_stack()
    try:
        services = catalogue()
        settings = stack_config.load(stack, services)
        parts = mesh.parts(stack, settings, services)
    except InvalidInput as error:
        raise pulumi.RunError(str(error)) from None

    registered: dict[str, pulumi.Resource] = {}
    for part in parts:
        before = [registered[name] for name in part.after]
        registered[part.name] = part.component(
            part.name, part.args, pulumi.ResourceOptions(depends_on=before)
        )
    pulumi.export("hosts", list(settings.public_hosts))


program()
