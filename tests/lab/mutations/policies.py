"""How mutations find their way in AuthorizationPolicies."""

from __future__ import annotations

import copy

from tests.lab.mutations.mutation import Object, Objects, named


def policy(objects: Objects, name: str) -> Object:
    """The AuthorizationPolicy of that name."""
    return named(objects, "AuthorizationPolicy", name)


def operations(of: Object) -> list[Object]:
    """All operations of a policy."""
    return [to["operation"] for rule in of["spec"]["rules"] for to in rule.get("to", ())]


def operation(of: Object, path: str) -> Object:
    """The operation of a policy that names a path."""
    return next(one for one in operations(of) if path in one.get("paths", ()))


def opened(objects: Objects, path: str, service: str) -> None:
    """Make a path of a service public, as if the catalogue had said so of its route."""
    for name in ("gateway-require-token", "gateway-require-tenant"):
        for each in operations(policy(objects, name)):
            each["notPaths"] += [path, f"{path}/*"]
    public = policy(objects, "gateway-public-identity-service")
    opening = {**copy.deepcopy(operations(public)[0]), "paths": [path, f"{path}/*"]}
    public["spec"]["rules"].append({"to": [{"operation": opening}]})
    for rule in policy(objects, f"{service}-gateway")["spec"]["rules"]:
        rule["from"][0]["source"].pop("requestPrincipals", None)
