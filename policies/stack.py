"""A set of objects, read once: what exists, what selects what, which hosts there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from policies.mesh_config import MeshConfig, chart_of, mesh_configs
from policies.policy import Object, annotations_of, name_of, namespace_of, spec_of
from policies.workloads import (
    MEMBERS,
    PODS,
    Workload,
    gateway_pods,
    gateway_service,
    member,
    templated,
)
from semantics.pods import makes_pods

DEPLOYED_ELSEWHERE = "voicemesh.io/deployed-elsewhere"
"""Annotation on a Namespace: names of Services and service accounts in it that exist though the
set does not hold them, separated by commas; `*` for all."""
CLUSTER_SCOPED = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
_ISTIO_NAMED_LIKE_OTHERS = {"Gateway", "Service"}


class Stack:
    """An index over a set of objects. It changes nothing and is made once for each check."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.objects: list[Object] = list(objects)
        self._by_kind: dict[str, list[Object]] = {}
        for item in self.objects:
            self._by_kind.setdefault(_kind(item), []).append(item)
        self.mesh_configs: tuple[MeshConfig, ...] = tuple(mesh_configs(self.objects))

    def of(self, *kinds: str) -> Iterator[Object]:
        """All objects of some kinds; `Gateway` is Istio's, `Service` Kubernetes' own.

        `PODS` is everything that makes pods. Another API's kind of the same name is asked for
        with its group: `Gateway.gateway.networking.k8s.io`.
        """
        for kind in kinds:
            yield from self._making_pods if kind == PODS else self._by_kind.get(kind, ())

    @cached_property
    def _making_pods(self) -> Sequence[Object]:
        """Objects that make pods; not those that another object of the set has made.

        A set that was read from a cluster has a Deployment, its ReplicaSets and their Pods, which
        say the same. An owner is known by its uid, which nobody can write into a manifest ahead.
        """
        made = [item for item in self.objects if makes_pods(item)]
        uids = {uid for item in made if (uid := (item.get("metadata") or {}).get("uid"))}
        return [
            item
            for item in made
            if not any(
                owner.get("uid") in uids
                for owner in (item.get("metadata") or {}).get("ownerReferences") or ()
            )
        ]

    @cached_property
    def root_namespace(self) -> str:
        """Istio's root namespace, where policies hold for the whole mesh."""
        return next(
            (str(m.get("rootNamespace")) for m in self.mesh_configs if m.get("rootNamespace")),
            "istio-system",
        )

    @cached_property
    def trust_domains(self) -> frozenset[str]:
        """The mesh's trust domain, its aliases, and `cluster.local`, which means the former."""
        found = {"cluster.local"}
        for mesh in self.mesh_configs:
            found.add(str(mesh.get("trustDomain", "cluster.local")))
            found.update(map(str, mesh.get("trustDomainAliases", ())))
        return frozenset(found)

    @cached_property
    def providers(self) -> frozenset[str] | None:
        """Names of all extension providers, None where the set holds no meshConfig."""
        if not self.mesh_configs:
            return None
        return frozenset().union(*(mesh.providers for mesh in self.mesh_configs))

    @cached_property
    def uses_istio(self) -> bool:
        """Whether the set is about a mesh at all."""
        return bool(self.mesh_configs) or any(
            ".istio.io/" in str(item.get("apiVersion", "")) for item in self.objects
        )

    # Namespaces

    @cached_property
    def namespace_objects(self) -> Mapping[str, Object]:
        """Namespace objects by name."""
        return {name_of(item): item for item in self.of("Namespace")}

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """Every namespace that anything in the set is in."""
        return frozenset(self.namespace_objects) | {
            namespace_of(item) for item in self.objects if item.get("kind") not in CLUSTER_SCOPED
        }

    def namespace_exists(self, namespace: str) -> bool:
        """Whether a namespace is in the set; true for all where the set holds no Namespace."""
        return not self.namespace_objects or namespace in self.namespaces

    def elsewhere(self, namespace: str, name: str) -> bool:
        """Whether something is declared as deployed by someone else."""
        declared = annotations_of(self.namespace_objects.get(namespace, {})).get(DEPLOYED_ELSEWHERE)
        names = {part.strip() for part in (declared or "").split(",")}
        return "*" in names or name in names

    def injects(self, namespace: str) -> bool | None:
        """Whether pods of a namespace get a proxy by default; None for an unknown namespace."""
        item = self.namespace_objects.get(namespace)
        if item is None:
            return None
        labels = (item.get("metadata") or {}).get("labels") or {}
        if labels.get("istio-injection") == "disabled":
            return False
        return labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels

    # Services and hosts

    @cached_property
    def services(self) -> Mapping[tuple[str, str], Object]:
        """Services by namespace and name."""
        found = {(namespace_of(item), name_of(item)): item for item in self.of("Service")}
        for release in self._gateway_releases:
            key = (namespace_of(release), name_of(release))
            found.setdefault(key, gateway_service(release))
        return found

    @cached_property
    def _namespaces_with_services(self) -> frozenset[str]:
        return frozenset(namespace for namespace, _ in self.services)

    @cached_property
    def external_hosts(self) -> Mapping[str, Object]:
        """ServiceEntries by host."""
        return {
            str(host): item
            for item in self.of("ServiceEntry")
            for host in spec_of(item).get("hosts") or ()
        }

    def service_of(self, host: str, namespace: str) -> tuple[str, str] | None:
        """(namespace, name) that a host means when an object of `namespace` names it."""
        name, *rest = host.split(".")
        if not rest:
            return namespace, name
        if len(rest) >= 2 and rest[1] == "svc":
            return rest[0], name
        return None

    def host_exists(self, host: str, namespace: str) -> bool | None:
        """Whether the mesh knows a host; None where the set does not hold what would tell."""
        if host in self.external_hosts or any(
            known.startswith("*.") and host.endswith(known[1:]) for known in self.external_hosts
        ):
            return True
        service = self.service_of(host, namespace)
        if service is None:
            return False if self.services else None
        if service in self.services or self.elsewhere(*service):
            return True
        if not self.services or not self.namespace_exists(service[0]):
            return None if not self.services else False
        return False if service[0] in self._namespaces_with_services else None

    def fqdn(self, host: str, namespace: str) -> str:
        """The full name of a host, for comparing."""
        return host if "." in host or host == "*" else f"{host}.{namespace}.svc.cluster.local"

    # Workloads

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Everything that runs: pod templates, gateway releases, members of the mesh outside the
        cluster, and what only a Service selects."""
        found = [
            templated(item, injects=self.injects(namespace_of(item)) is not False)
            for item in self.of(PODS)
        ]
        found += [gateway_pods(release) for release in self._gateway_releases]
        found += [member(item) for item in self.of(*MEMBERS)]
        by_label: dict[tuple[str, str, str], list[Workload]] = {}
        for workload in found:
            for key, value in workload.labels.items():
                by_label.setdefault((workload.namespace, key, value), []).append(workload)
        for (namespace, name), service in self.services.items():
            selector = spec_of(service).get("selector") or {}
            if not selector:
                continue
            candidates = by_label.get((namespace, *next(iter(selector.items()))), ())
            if not any(selector.items() <= w.labels.items() for w in candidates):
                implied = Workload(
                    namespace=namespace,
                    name=name,
                    labels=dict(selector),
                    account=None,
                    source=service,
                    known=False,
                    proxied=self.injects(namespace) is not False,
                )
                found.append(implied)
        return tuple(found)

    @cached_property
    def _workloads_by_label(self) -> Mapping[tuple[str, str], Sequence[Workload]]:
        found: dict[tuple[str, str], list[Workload]] = {}
        for workload in self.workloads:
            for pair in workload.labels.items():
                found.setdefault(pair, []).append(workload)
        return found

    def selected(self, selector: Mapping[str, str], namespace: str | None) -> list[Workload]:
        """Workloads that a selector takes, in one namespace or (None) in all."""
        if not selector:
            candidates: Iterable[Workload] = self.workloads
        else:
            candidates = {
                id(workload): workload
                for pair in selector.items()
                for workload in self._workloads_by_label.get(pair, ())
            }.values()
        return [
            workload
            for workload in candidates
            if namespace in (None, workload.namespace) and workload.matched_by(selector)
        ]

    def services_selecting(self, workload: Workload) -> list[Object]:
        """Services whose selector takes the workload."""
        found = {}
        for pair in workload.labels.items():
            for service in self._services_by_label.get((workload.namespace, *pair), ()):
                if (spec_of(service).get("selector") or {}).items() <= workload.labels.items():
                    found[id(service)] = service
        return list(found.values())

    @cached_property
    def _services_by_label(self) -> Mapping[tuple[str, str, str], Sequence[Object]]:
        found: dict[tuple[str, str, str], list[Object]] = {}
        for (namespace, _), service in self.services.items():
            for key, value in (spec_of(service).get("selector") or {}).items():
                found.setdefault((namespace, key, value), []).append(service)
        return found

    def reach_of(self, policy: Object) -> str | None:
        """The namespace that a selector of this object looks into; None for the whole mesh."""
        namespace = namespace_of(policy)
        return None if namespace == self.root_namespace else namespace

    def taken_by(self, policy: Object) -> list[Workload]:
        """Workloads that a policy's selector takes; none for what is bound by targetRefs."""
        if by_reference(policy):
            return []
        return self.selected(selector_of(policy), self.reach_of(policy))

    def applying(self, kind: str, workload: Workload) -> list[Object]:
        """Objects of a kind with `spec.selector.matchLabels` that apply to a workload."""
        index = self._selecting(kind)
        found = {}
        for namespace in dict.fromkeys((self.root_namespace, workload.namespace)):
            for pair in (None, *workload.labels.items()):
                for item in index.get((namespace, pair), ()):
                    if workload.matched_by(selector_of(item)):
                        found[id(item)] = item
        return list(found.values())

    def _selecting(
        self, kind: str
    ) -> Mapping[tuple[str, tuple[str, str] | None], Sequence[Object]]:
        if kind not in self._selecting_by_kind:
            index: dict[tuple[str, tuple[str, str] | None], list[Object]] = {}
            for item in self.of(kind):
                if by_reference(item):
                    continue
                for pair in selector_of(item).items() or (None,):
                    index.setdefault((namespace_of(item), pair), []).append(item)
            self._selecting_by_kind[kind] = index
        return self._selecting_by_kind[kind]

    @cached_property
    def _selecting_by_kind(
        self,
    ) -> dict[str, Mapping[tuple[str, tuple[str, str] | None], Sequence[Object]]]:
        return {}

    @cached_property
    def accounts(self) -> frozenset[tuple[str, str]]:
        """Service accounts that are declared or that some pods run as."""
        declared = {(namespace_of(item), name_of(item)) for item in self.of("ServiceAccount")}
        running = {(w.namespace, w.account) for w in self.workloads if w.account is not None}
        return frozenset(declared | running)

    # Gateways and routes

    @cached_property
    def delegates(self) -> Mapping[tuple[str, str], Object]:
        """VirtualServices that have no hosts, and so serve what others hand over to them."""
        return {
            (namespace_of(item), name_of(item)): item
            for item in self.of("VirtualService")
            if not spec_of(item).get("hosts")
        }

    @cached_property
    def gateways(self) -> Mapping[str, Object]:
        """Istio's Gateway objects by `namespace/name`."""
        return {f"{namespace_of(item)}/{name_of(item)}": item for item in self.of("Gateway")}

    @cached_property
    def gateway_accounts(self) -> frozenset[str]:
        """`namespace/account` of the pods that Gateway objects select."""
        found = set()
        for item in self.of("Gateway"):
            for workload in self.selected(spec_of(item).get("selector") or {}, None):
                if workload.account is not None:
                    found.add(f"{workload.namespace}/{workload.account}")
        return frozenset(found)

    def is_gateway(self, labels: Mapping[str, str]) -> bool:
        """Whether a Gateway object selects pods with these labels."""
        return any(
            selector and selector.items() <= labels.items()
            for selector in (spec_of(item).get("selector") or {} for item in self.of("Gateway"))
        )

    @cached_property
    def _gateway_releases(self) -> tuple[Object, ...]:
        return tuple(r for r in self.of("Release", "HelmRelease") if chart_of(r) == "gateway")


def by_reference(item: Object) -> bool:
    """Whether a policy names a Gateway API gateway or a waypoint, and so no pods by label."""
    spec = spec_of(item)
    return bool(spec.get("targetRef") or spec.get("targetRefs"))


def selector_of(item: Object) -> Mapping[str, str]:
    """`matchLabels` of an object's selector, or a Sidecar's or EnvoyFilter's `labels`."""
    spec = spec_of(item)
    if "workloadSelector" in spec:
        return (spec["workloadSelector"] or {}).get("labels") or {}
    selector = spec.get("selector") or {}
    return selector.get("matchLabels") or {} if isinstance(selector, Mapping) else {}


def _kind(item: Object) -> str:
    kind, api = str(item.get("kind", "")), str(item.get("apiVersion", ""))
    if kind in _ISTIO_NAMED_LIKE_OTHERS:
        ours = api.startswith("networking.istio.io/") if kind == "Gateway" else api == "v1"
        return kind if ours else f"{kind}.{api.rpartition('/')[0]}"
    return kind
