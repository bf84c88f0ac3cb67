"""Reading mesh objects: which workloads, identities and policies a set holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from semantics.identity import Object, kind_of, labels_of, name_of, namespace_of
from semantics.mesh import Mesh, mesh_of
from semantics.pods import injection_asked, is_made, makes_pods, pod_template

ANY_OTHER = "(any other workload)"
"""Stands for pods that nothing in the set tells of: only policies without selector reach them."""
OTHER_NAMESPACE = "some-other"
_POLICIES = ("AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication")
_Place = tuple[str, tuple[str, str] | None]
_HTTP = {"http", "http2", "https", "grpc", "grpc-web", "h2c", "kubernetes.io/h2c"}
HTTP_SERVERS = {"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"}


@dataclass(frozen=True)
class Workload:
    """Pods that policies treat alike: a namespace and a set of labels."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    service_account: str = "default"
    ports: Mapping[int, bool] = field(default_factory=dict, hash=False)
    """Port number → whether it speaks HTTP. Ports of no Service are not listed."""
    gateway: bool = False
    """True where a Gateway object selects the pods: servers and not PeerAuthentication set TLS."""
    proxied: bool = True
    """False: no sidecar is injected, so no policy is enforced and plaintext gets in."""
    implied: bool = False
    """True where nothing but a policy's selector tells of it."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class MeshObjects:
    """A set of objects, indexed by what the evaluator asks of it."""

    def __init__(self, objects: Iterable[Object], mesh: Mesh | None = None) -> None:
        self.by_kind: dict[str, list[Object]] = {}
        for item in objects:
            self.by_kind.setdefault(kind_of(item), []).append(item)
        self.mesh = mesh or mesh_of(self.of("ConfigMap"))

    def of(self, kind: str) -> Sequence[Object]:
        """All objects of a kind."""
        return self.by_kind.get(kind, ())

    def applying(self, kind: str, workload: Workload) -> Iterator[Object]:
        """Policies of a kind that apply to a workload: the root namespace's, then its own."""
        selective = self._selective(kind)
        for namespace in dict.fromkeys((self.mesh.root_namespace, workload.namespace)):
            places = [selective.get((namespace, None), ())]
            places += [selective.get((namespace, label), ()) for label in workload.labels.items()]
            for place in sorted({place for found in places for place in found}):
                policy = self.of(kind)[place]
                if applies(policy, workload):
                    yield policy

    def _selective(self, kind: str) -> Mapping[_Place, list[int]]:
        """Places of a kind's policies by namespace and one label that they select, if any."""
        if kind not in self._by_label:
            found: dict[_Place, list[int]] = {}
            for place, policy in enumerate(self.of(kind)):
                labels = (_spec(policy).get("selector") or {}).get("matchLabels") or {}
                label = next(iter(labels.items()), None)
                found.setdefault((namespace_of(policy), label), []).append(place)
            self._by_label[kind] = found
        return self._by_label[kind]

    @cached_property
    def _by_label(self) -> dict[str, Mapping[_Place, list[int]]]:
        return {}

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Every workload that a pod template, a Service or a policy's selector tells of.

        And for each namespace one that stands for all others.

        Pods come from the templates in the set. What only a Service selects stands for its pods;
        what only a policy's selector names, likewise: an application deployed by someone else.
        """
        found = _Workloads()
        for kind in sorted(self.by_kind):
            for item in self.by_kind[kind]:
                if makes_pods(item) and not is_made(item):
                    found.add(self._from_template(item))
        for service in self.of("Service"):
            selector = _spec(service).get("selector")
            if selector and not found.selected(namespace_of(service), selector):
                found.add(self._implied(namespace_of(service), name_of(service), selector))
        for kind in _POLICIES:
            for policy in self.of(kind):
                labels = (_spec(policy).get("selector") or {}).get("matchLabels")
                namespace = namespace_of(policy)
                if not labels or namespace == self.mesh.root_namespace:
                    continue
                if not found.selected(namespace, labels):
                    implied = self._implied(namespace, _readable(labels), labels)
                    found.add(replace(implied, implied=True))
        for gateway in self.of("Gateway"):
            selector = _spec(gateway).get("selector") or {}
            if not any(_subset(selector, w.labels) for w in found.all):
                found.add(self._implied_gateway(gateway, selector))
        for namespace in self._governed_namespaces():
            found.add(Workload(namespace, ANY_OTHER))
        return tuple(sorted(found.all, key=str))

    def _governed_namespaces(self) -> list[str]:
        """Namespaces whose pods get a proxy, and one that stands for all that are not named."""
        named = {namespace for kind in _POLICIES for namespace in map(namespace_of, self.of(kind))}
        named = {n for n in named | set(self._namespaces) if self._injected(n, None)}
        return sorted((named | {OTHER_NAMESPACE}) - {self.mesh.root_namespace})

    def _implied_gateway(self, gateway: Object, selector: Mapping[str, str]) -> Workload:
        """Gateway pods installed by someone else: they run as the one account that policies name."""
        namespace = namespace_of(gateway)
        name = selector.get("istio") or selector.get("app") or name_of(gateway)
        accounts = {a for ns, a in self.named_principals if ns == namespace}
        return Workload(
            namespace=namespace,
            name=name,
            labels=dict(selector),
            service_account=accounts.pop() if len(accounts) == 1 else name,
            gateway=True,
        )

    @cached_property
    def named_principals(self) -> frozenset[tuple[str, str]]:
        """(namespace, service account) of every whole principal that a policy names."""
        found = set()
        for policy in self.of("AuthorizationPolicy"):
            for rule in _spec(policy).get("rules") or ():
                for entry in (rule or {}).get("from") or ():
                    for principal in (entry.get("source") or {}).get("principals") or ():
                        parts = str(principal).split("/")
                        if len(parts) == 5 and "*" not in principal:
                            found.add((parts[2], parts[4]))
        return frozenset(found)

    @cached_property
    def identities(self) -> frozenset[tuple[str, str]]:
        """(namespace, service account) of everything that can have an identity in the mesh."""
        declared = {(namespace_of(item), name_of(item)) for item in self.of("ServiceAccount")}
        known = [w for w in self.workloads if w.name != ANY_OTHER]
        running = {(w.namespace, w.service_account) for w in known if w.proxied}
        without_proxy = {(w.namespace, w.service_account) for w in known if not w.proxied}
        return frozenset((declared - without_proxy) | running)

    @cached_property
    def _accounts(self) -> frozenset[tuple[str, str]]:
        return frozenset((namespace_of(s), name_of(s)) for s in self.of("ServiceAccount"))

    @cached_property
    def _services(self) -> Mapping[_Place, list[Object]]:
        """Services by namespace and one label that they select."""
        found: dict[_Place, list[Object]] = {}
        for service in self.of("Service"):
            for label in (_spec(service).get("selector") or {}).items():
                found.setdefault((namespace_of(service), label), []).append(service)
                break
        return found

    @cached_property
    def _namespaces(self) -> Mapping[str, Mapping[str, str]]:
        return {name_of(item): labels_of(item) for item in self.of("Namespace")}

    @cached_property
    def _gateway_selectors(self) -> tuple[Mapping[str, str], ...]:
        return tuple(_spec(gateway).get("selector") or {} for gateway in self.of("Gateway"))

    def _from_template(self, item: Object) -> Workload:
        template = pod_template(item)[1]
        metadata = template.get("metadata") or {}
        labels = {str(k): str(v) for k, v in (metadata.get("labels") or {}).items()}
        pod = template.get("spec") or {}
        containers = {
            port.get("name"): port.get("containerPort")
            for container in pod.get("containers") or ()
            for port in container.get("ports") or ()
        }
        namespace = namespace_of(item)
        return Workload(
            namespace=namespace,
            name=name_of(item),
            labels=labels,
            service_account=pod.get("serviceAccountName") or "default",
            ports=self._ports(namespace, labels, containers),
            gateway=any(_subset(selector, labels) for selector in self._gateway_selectors),
            proxied=not pod.get("hostNetwork")
            and self._injected(namespace, injection_asked(template)),
        )

    def _implied(self, namespace: str, name: str, labels: Mapping[str, str]) -> Workload:
        own = next(
            (n for n in (name, labels.get("app", "")) if (namespace, n) in self._accounts), None
        )
        return Workload(
            namespace=namespace,
            name=name,
            labels=dict(labels),
            service_account=own or labels.get("app") or name,
            ports=self._ports(namespace, labels, {}),
            gateway=any(_subset(selector, labels) for selector in self._gateway_selectors),
            proxied=self._injected(namespace, injection_asked({"metadata": {"labels": labels}})),
        )

    def _ports(
        self, namespace: str, labels: Mapping[str, str], containers: Mapping[Any, Any]
    ) -> dict[int, bool]:
        """The workload's ports by the Services that select it, and whether they speak HTTP."""
        ports: dict[int, bool] = {}
        candidates = (self._services.get((namespace, label), ()) for label in labels.items())
        for service in (each for found in candidates for each in found):
            if not _subset(_spec(service).get("selector") or {}, labels):
                continue
            for port in _spec(service).get("ports") or ():
                target = port.get("targetPort", port.get("port"))
                number = (
                    containers.get(target, port.get("port")) if isinstance(target, str) else target
                )
                ports[int(number)] = self._speaks_http(port, labels)
        return ports

    def _speaks_http(self, port: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        for gateway in self.of("Gateway"):
            if not _subset(_spec(gateway).get("selector") or {}, labels):
                continue
            for server in _spec(gateway).get("servers") or ():
                if server.get("port", {}).get("number") == port.get("port"):
                    return str(server["port"].get("protocol", "")).upper() in HTTP_SERVERS
        protocol = str(port.get("appProtocol") or str(port.get("name") or "").split("-")[0]).lower()
        return protocol in _HTTP

    def _injected(self, namespace: str, asked: bool | None) -> bool:
        """Whether istiod's webhook adds a proxy; a namespace that is not in the set counts as in."""
        if namespace not in self._namespaces:
            return asked is not False
        of_namespace = self._namespaces[namespace]
        if of_namespace.get("istio-injection") == "disabled" or asked is False:
            return False
        on = of_namespace.get("istio-injection") == "enabled" or "istio.io/rev" in of_namespace
        return on or asked is True


def applies(policy: Object, workload: Workload) -> bool:
    """Whether selector and targetRefs of a policy include a workload of a namespace it reaches.

    A policy with targetRefs is for Gateway API gateways and waypoints: of a sidecar it says
    nothing, and of a gateway only when it names it.
    """
    spec = _spec(policy)
    refs = spec.get("targetRefs") or ([spec["targetRef"]] if spec.get("targetRef") else [])
    gateway = workload.labels.get("gateway.networking.k8s.io/gateway-name")
    if refs:
        return (
            gateway is not None
            and namespace_of(policy) == workload.namespace
            and any(
                ref.get("kind") == "Gateway"
                and ref.get("group") == "gateway.networking.k8s.io"
                and ref.get("name") == gateway
                and ref.get("namespace") in (None, "", workload.namespace)
                for ref in refs
            )
        )
    return _subset((spec.get("selector") or {}).get("matchLabels") or {}, workload.labels)


def _spec(item: Object) -> Mapping[str, Any]:
    return item.get("spec") or {}


def _subset(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


class _Workloads:
    """Workloads found so far, to be asked whether a selector selects one of them."""

    def __init__(self) -> None:
        self.all: list[Workload] = []
        self._by_label: dict[_Place, list[Workload]] = {}

    def add(self, workload: Workload) -> None:
        self.all.append(workload)
        for label in workload.labels.items():
            self._by_label.setdefault((workload.namespace, label), []).append(workload)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> bool:
        label = next(iter(selector.items()), None)
        return any(_subset(selector, w.labels) for w in self._by_label.get((namespace, label), ()))


def _readable(labels: Mapping[str, str]) -> str:
    if set(labels) == {"app"}:
        return labels["app"]
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
