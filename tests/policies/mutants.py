"""How mutations find what they weaken: by kind and content, never by the stack's own names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Objects = list[Object]


class NothingToMutate(LookupError):
    """The stack holds nothing that a mutation is about; the mutation proves nothing then."""


@dataclass(frozen=True)
class Mutation:
    """One weakening and the policy that is there to notice it."""

    name: str
    policy: str
    apply: Callable[[Objects], Objects | None]
    stack: str = "prod"

    def of(self, objects: Objects) -> Objects:
        """A weakened copy of the objects.

        Raises:
            NothingToMutate: the weakening changed nothing.
        """
        mutant = copy.deepcopy(objects)
        replaced = self.apply(mutant)
        mutant = mutant if replaced is None else replaced
        if mutant == objects:
            raise NothingToMutate(f"{self.name}: the objects are as before")
        return mutant


MUTATIONS: list[Mutation] = []

Weakening = Callable[[Objects], Objects | None]


def mutation(name: str, policy: str, stack: str = "prod") -> Callable[[Weakening], Weakening]:
    """Registers a weakening."""

    def register(apply: Weakening) -> Weakening:
        MUTATIONS.append(Mutation(name, policy, apply, stack))
        return apply

    return register


def every(
    objects: Objects, kind: str, where: Callable[[Object], bool] = lambda _: True
) -> Iterator[Object]:
    """Objects of a kind that fulfil a condition."""
    return (o for o in objects if o["kind"] == kind and where(o))


def one(objects: Objects, kind: str, where: Callable[[Object], bool] = lambda _: True) -> Object:
    """The first of them.

    Raises:
        NothingToMutate: there is none.
    """
    for item in every(objects, kind, where):
        return item
    raise NothingToMutate(f"no {kind} that fits")


def without(objects: Objects, *gone: Object) -> Objects:
    """The objects without some."""
    return [o for o in objects if not any(o is g for g in gone)]


def name(item: Object) -> str:
    return str(item["metadata"]["name"])


def namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace", "default"))


def made(kind: str, api: str, ns: str, spec: Any, metadata: Object | None = None) -> Object:
    """A new object named `mutant`."""
    meta = {"name": "mutant", "namespace": ns, **(metadata or {})}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


# What the stack is made of


def root(objects: Objects) -> str:
    """The root namespace: where the policy with an empty spec is."""
    return namespace(deny_all(objects))


def deny_all(objects: Objects) -> Object:
    return one(objects, "AuthorizationPolicy", lambda o: not o.get("spec"))


def apps(objects: Objects) -> str:
    """The namespace of the applications: the injected one."""
    injected = one(
        objects,
        "Namespace",
        lambda o: o["metadata"].get("labels", {}).get("istio-injection") == "enabled",
    )
    return name(injected)


def gateway_selector(objects: Objects) -> dict[str, str]:
    return dict(one(objects, "Gateway")["spec"]["selector"])


def matches(item: Object) -> dict[str, str]:
    return dict(((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {})


def policy(
    objects: Objects,
    action: str,
    *,
    gateway: bool,
    where: Callable[[Object], bool] = lambda _: True,
) -> Object:
    """An AuthorizationPolicy by action, at the gateway or at a service."""
    selector = gateway_selector(objects)
    return one(
        objects,
        "AuthorizationPolicy",
        lambda o: (
            o["spec"].get("action") == action
            and (matches(o).items() <= selector.items()) == gateway
            and bool(matches(o))
            and where(o)
        ),
    )


def sources(item: Object) -> list[Object]:
    """All sources of an AuthorizationPolicy."""
    return [f["source"] for rule in item["spec"].get("rules") or () for f in rule.get("from") or ()]


def operations(item: Object) -> list[Object]:
    """All operations of an AuthorizationPolicy."""
    return [
        t["operation"] for rule in item["spec"].get("rules") or () for t in rule.get("to") or ()
    ]


def conditions(item: Object) -> list[Object]:
    """All conditions of an AuthorizationPolicy."""
    return [w for rule in item["spec"].get("rules") or () for w in rule.get("when") or ()]


def by_token(item: Object) -> bool:
    """Whether a policy asks for a token."""
    return any("requestPrincipals" in s for s in sources(item))


def by_peer(item: Object) -> bool:
    """Whether a policy asks for certificates and nothing else."""
    return bool(sources(item)) and all(set(s) == {"principals"} for s in sources(item))


def public(item: Object) -> bool:
    """Whether a policy is declared open."""
    return "voicemesh.io/public-without-token" in item["metadata"].get("annotations", {})


def http(item: Object) -> list[Object]:
    """HTTP routes of a VirtualService."""
    return item["spec"].get("http") or []


def at_gateway(item: Object) -> bool:
    return bool(item["spec"].get("gateways", ["mesh"]) != ["mesh"])


def route(
    objects: Objects,
    where: Callable[[Object], bool],
    vs: Callable[[Object], bool] = at_gateway,
) -> Object:
    """An HTTP route of some VirtualService."""
    for item in every(objects, "VirtualService", vs):
        for each in http(item):
            if where(each):
                return each
    raise NothingToMutate("no such route")


def uris(each: Object) -> list[str]:
    return [v for m in each.get("match") or () for v in (m.get("uri") or {}).values()]


def servers(objects: Objects, mode: str) -> list[Object]:
    """Gateway servers with a TLS mode."""
    found = [
        s
        for g in every(objects, "Gateway")
        for s in g["spec"]["servers"]
        if (s.get("tls") or {}).get("mode") == mode
    ]
    if not found:
        raise NothingToMutate(f"no server with mode {mode}")
    return found


def patches(objects: Objects, type_suffix: str) -> list[Object]:
    """EnvoyFilter patches whose value is of a type."""
    found = [
        entry
        for f in every(objects, "EnvoyFilter")
        for entry in f["spec"]["configPatches"]
        if str(
            ((entry["patch"].get("value") or {}).get("typed_config") or {}).get("@type", "")
        ).endswith(type_suffix)
    ]
    if not found:
        raise NothingToMutate(f"no patch of type {type_suffix}")
    return found


def filter_of(objects: Objects, type_suffix: str) -> Object:
    """The EnvoyFilter that has such a patch."""
    wanted = patches(objects, type_suffix)[0]
    return one(
        objects, "EnvoyFilter", lambda o: any(p is wanted for p in o["spec"]["configPatches"])
    )


def mesh_config(objects: Objects, change: Callable[[Object], None]) -> None:
    """Changes meshConfig in istiod's ConfigMap."""
    import yaml

    item = one(objects, "ConfigMap", lambda o: "mesh" in (o.get("data") or {}))
    config = yaml.safe_load(item["data"]["mesh"])
    change(config)
    item["data"]["mesh"] = yaml.safe_dump(config)


def pod_template(objects: Objects) -> Object:
    """Template of a Deployment in the applications' namespace."""
    ns = apps(objects)
    deployment = one(objects, "Deployment", lambda o: namespace(o) == ns)
    template: Object = deployment["spec"]["template"]
    return template
