"""What policies and routes name exists: workloads, accounts, hosts, ports, gateways, subsets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policies.access_rules import clauses
from policies.policy import (
    Config,
    Finding,
    Object,
    Setting,
    Severity,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.routing import MESH, destinations, gateways_of
from policies.stack import Stack, selector_of
from policies.workloads import Workload, containers

_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_SELECTING = (
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
    "Telemetry",
    "Sidecar",
    "EnvoyFilter",
    "ProxyConfig",
)
_PRINCIPAL = re.compile(
    r"^(?P<domain>[^/*]+|\*)/ns/(?P<namespace>[^/*]+)(/sa/(?P<account>[^/*]+))?"
)
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"}


@stack_policy(
    "selector-selects",
    title="Selectors select something",
    severity=Severity.HIGH,
    codes=("IST0127", "KIA0004"),
    text="The selector of a policy, filter, Sidecar, Telemetry or Gateway takes at least one "
    "workload. A policy for a label that no pod has protects nothing, and nobody notices.",
    remedy="Correct the label, or delete the object.",
    url=_ANALYSIS + "ist0127/",
)
def selector_selects(stack: Stack, _: Config) -> Iterator[Finding]:
    """Judges where the set tells of any workload of the namespace."""
    populated = {workload.namespace for workload in stack.workloads}
    for item in stack.of(*_SELECTING):
        namespace, selector = stack.reach_of(item), selector_of(item)
        if not selector or not populated:
            continue
        if (
            namespace is not None
            and namespace not in populated
            and stack.namespace_exists(namespace)
        ):
            continue
        if not stack.selected(selector, namespace):
            where = f"in namespace {namespace}" if namespace else "in the mesh"
            yield Finding(
                item, "spec.selector", f"nothing {where} has the labels {_text(selector)}"
            )
    for item in stack.of("Gateway"):
        selector = spec_of(item).get("selector") or {}
        if selector and populated and not stack.selected(selector, None):
            yield Finding(item, "spec.selector", f"no pod has the labels {_text(selector)}")


def _text(labels: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


@stack_policy(
    "caller-exists",
    title="Callers that policies name exist",
    severity=Severity.HIGH,
    codes=("KIA0101", "KIA0106"),
    text="Each principal has the mesh's trust domain, a namespace that exists and a service "
    "account that is declared or that some pod runs as. A misspelt caller is refused; one that "
    "does not exist yet can be created by whoever may create accounts.",
    remedy="Correct the name, or create the service account with the workload.",
    url="https://istio.io/latest/docs/reference/config/security/authorization-policy/#Source",
    settings={
        "accounts": Setting(
            "array", [], "Accounts (namespace/name) that exist though the set does not hold them."
        )
    },
)
def caller_exists(stack: Stack, config: Config) -> Iterator[Finding]:
    """Takes principals, service accounts and namespaces apart."""
    elsewhere = set(config["accounts"])
    populated = {namespace for namespace, _ in stack.accounts}
    for item in stack.of("AuthorizationPolicy"):
        problems: dict[tuple[str, str], None] = {}
        for clause in clauses(item):
            for named in (clause.fields, clause.negative):
                for principal in named.get("principals", ()):
                    found = _PRINCIPAL.match(principal)
                    if found is None:
                        if not principal.startswith("*") and not principal.endswith("*"):
                            problems[
                                clause.path, f"{principal} is not of the form domain/ns/x/sa/y"
                            ] = None
                        continue
                    domain, namespace, account = found.group("domain", "namespace", "account")
                    if domain != "*" and domain not in stack.trust_domains:
                        problems[clause.path, f"{domain} is not the mesh's trust domain"] = None
                    if f"{namespace}/{account}" not in elsewhere and (
                        problem := _account_problem(stack, populated, namespace, account)
                    ):
                        problems[clause.path, problem] = None
                for namespace in named.get("namespaces", ()):
                    if "*" not in namespace and not stack.namespace_exists(namespace):
                        problems[clause.path, f"namespace {namespace} does not exist"] = None
                for account in named.get("serviceAccounts", ()):
                    namespace, _, name = account.rpartition("/")
                    problem = _account_problem(
                        stack, populated, namespace or namespace_of(item), name
                    )
                    if "*" not in account and account not in elsewhere and problem:
                        problems[clause.path, problem] = None
        for path, message in problems:
            yield Finding(item, path, message)


def _account_problem(
    stack: Stack, populated: set[str], namespace: str, account: str | None
) -> str | None:
    if not stack.namespace_exists(namespace):
        return f"namespace {namespace} does not exist"
    if account is None or (namespace, account) in stack.accounts or namespace not in populated:
        return None
    if stack.elsewhere(namespace, account):
        return None
    return f"there is no service account {account} in namespace {namespace}"


@object_policy(
    "methods-known",
    "AuthorizationPolicy",
    title="Methods are HTTP methods",
    severity=Severity.HIGH,
    codes=("KIA0102",),
    text="A rule names methods as HTTP spells them, in capitals. `get` matches nothing: an ALLOW "
    "refuses, a DENY lets through.",
    remedy="Write GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. A gRPC call is a POST.",
    url="https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation",
)
def methods_known(item: Object, _: Config) -> Iterator[Finding]:
    """Compares with the methods of HTTP."""
    for clause in clauses(item):
        for named in (clause.fields, clause.negative):
            for method in named.get("methods", ()):
                if method not in _METHODS:
                    yield Finding(item, clause.path, f"{method} is no HTTP method")


@stack_policy(
    "policy-port-exists",
    title="Ports that policies name are served",
    severity=Severity.HIGH,
    text="Each port in a rule is a port of the selected pods: a Service's targetPort, a container "
    "port, a Gateway server. Policies compare the pod's port; a rule for a Service port that is "
    "mapped to another never matches.",
    remedy="Use the targetPort.",
    url="https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation",
)
def policy_port_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Judges policies whose selector takes workloads with known ports."""
    served: dict[int, set[str]] = {}
    for item in stack.of("AuthorizationPolicy", "PeerAuthentication"):
        if not selector_of(item):
            continue
        workloads = stack.taken_by(item)
        known: set[str] = set()
        for workload in workloads:
            if id(workload) not in served:
                served[id(workload)] = ports_of(stack, workload)
            known |= served[id(workload)]
        if not known:
            continue
        named = {
            (clause.path, port)
            for clause in (clauses(item) if item.get("kind") == "AuthorizationPolicy" else ())
            for ports in (clause.fields.get("ports", ()), clause.negative.get("ports", ()))
            for port in ports
        } | {("spec.portLevelMtls", str(port)) for port in spec_of(item).get("portLevelMtls") or {}}
        for path, port in sorted(named):
            if port not in known:
                message = f"port {port} is served by none of {', '.join(map(str, workloads[:3]))}"
                yield Finding(item, path, message)


def ports_of(stack: Stack, workload: Workload) -> set[str]:
    """Ports of the pods that a Service, a container or a Gateway server names."""
    found: set[str] = set()
    for service in stack.services_selecting(workload):
        for port in spec_of(service).get("ports") or ():
            target = port.get("targetPort", port.get("port"))
            found.add(str(target if isinstance(target, int) else port.get("port")))
    for _path, container in containers(workload.source):
        found.update(str(p.get("containerPort")) for p in container.get("ports") or ())
    for gateway in stack.of("Gateway"):
        if workload.matched_by(spec_of(gateway).get("selector") or {}):
            for server in spec_of(gateway).get("servers") or ():
                found.add(str((server.get("port") or {}).get("number")))
    return found


@stack_policy(
    "host-exists",
    title="Hosts that are routed to exist",
    severity=Severity.HIGH,
    codes=("IST0101", "IST0174", "KIA1101", "KIA0202", "KIA1004"),
    text="Destinations and mirrors of VirtualServices, hosts of DestinationRules, egress hosts of "
    "Sidecars and hosts of extension providers are Services or ServiceEntries. A route to a host "
    "that nobody has is a 503.",
    remedy="Correct the host; add a ServiceEntry for one outside the mesh; name a Service that "
    "someone else deploys in its Namespace's annotation voicemesh.io/deployed-elsewhere.",
    url=_ANALYSIS + "ist0101/",
    settings={"hosts": Setting("array", [], "Hosts that exist though the set does not hold them.")},
)
def host_exists(stack: Stack, config: Config) -> Iterator[Finding]:
    """Judges a host where the set holds Services of its namespace."""
    for item, path, host in _named_hosts(stack):
        if host in config["hosts"]:
            continue
        if stack.host_exists(host, namespace_of(item)) is False:
            yield Finding(item, path, f"nothing in the mesh has the host {host}")


def _named_hosts(stack: Stack) -> Iterator[tuple[Object, str, str]]:
    for item in stack.of("VirtualService"):
        for path, destination in destinations(item):
            yield item, f"{path}.host", str(destination.get("host", ""))
    for item in stack.of("DestinationRule"):
        host = str(spec_of(item).get("host", ""))
        if not host.startswith("*"):
            yield item, "spec.host", host
    for item in stack.of("Sidecar"):
        for index, listener in enumerate(spec_of(item).get("egress") or ()):
            for number, entry in enumerate(listener.get("hosts") or ()):
                host = str(entry).rpartition("/")[2]
                if "*" not in host and "." in host:
                    yield item, f"spec.egress[{index}].hosts[{number}]", host
    for mesh in stack.mesh_configs:
        for index, provider in enumerate(mesh.get("extensionProviders", ())):
            for kind, value in provider.items():
                if isinstance(value, Mapping) and value.get("service"):
                    path = f"{mesh.path}.extensionProviders[{index}].{kind}.service"
                    yield mesh.holder, path, str(value["service"]).rpartition("/")[2]


@stack_policy(
    "route-port-exists",
    title="Ports that are routed to exist",
    severity=Severity.HIGH,
    codes=("IST0101", "IST0112"),
    text="A destination names a port that its Service has, and names one where the Service has "
    "several.",
    remedy="Use a port number of the Service.",
    url=_ANALYSIS + "ist0101/",
)
def route_port_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with the Service."""
    for item in stack.of("VirtualService"):
        for path, destination in destinations(item):
            service = stack.service_of(str(destination.get("host", "")), namespace_of(item))
            ports = spec_of(stack.services.get(service or ("", ""), {})).get("ports") or ()
            if not ports:
                continue
            numbers = [port.get("port") for port in ports]
            wanted = (destination.get("port") or {}).get("number")
            host = destination.get("host")
            if wanted is None and len(numbers) > 1:
                yield Finding(item, f"{path}.port", f"{host} has several ports: name one")
            elif wanted is not None and wanted not in numbers:
                listed = ", ".join(map(str, numbers))
                yield Finding(item, f"{path}.port", f"{host} has no port {wanted}, only {listed}")


@stack_policy(
    "subset-exists",
    title="Subsets that are routed to exist",
    severity=Severity.HIGH,
    codes=("IST0101", "KIA1107"),
    text="A destination's subset is declared by a DestinationRule of that host; otherwise the "
    "route is a 503.",
    remedy="Declare the subset, or route without it.",
    url=_ANALYSIS + "ist0101/",
)
def subset_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with the DestinationRules of the host."""
    declared: set[tuple[str, str]] = set()
    for rule in stack.of("DestinationRule"):
        host = stack.fqdn(str(spec_of(rule).get("host", "")), namespace_of(rule))
        declared |= {(host, str(s.get("name"))) for s in spec_of(rule).get("subsets") or ()}
    for item in stack.of("VirtualService"):
        for path, destination in destinations(item):
            host = stack.fqdn(str(destination.get("host", "")), namespace_of(item))
            subset = destination.get("subset")
            if subset and (host, str(subset)) not in declared:
                yield Finding(item, f"{path}.subset", f"{host} has no subset {subset}")


@stack_policy(
    "route-gateway-exists",
    title="Gateways that routes bind to exist and serve their hosts",
    severity=Severity.HIGH,
    codes=("IST0101", "IST0132", "KIA1102"),
    text="A VirtualService binds to Gateways that are there and serve some of its hosts, and each "
    "of its hosts is served by one of them for its namespace. Otherwise the route is never used.",
    remedy="Correct the gateway's name (namespace/name), or add the host to a server.",
    url=_ANALYSIS + "ist0132/",
)
def route_gateway_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with the Gateway objects."""
    for item in stack.of("VirtualService"):
        bound = [g for g in gateways_of(item) if g != MESH]
        for gateway in bound:
            if gateway not in stack.gateways:
                yield Finding(item, "spec.gateways", f"there is no Gateway {gateway}")
        known = [stack.gateways[g] for g in bound if g in stack.gateways]
        if not known or MESH in gateways_of(item):
            continue
        hosts = [str(host) for host in spec_of(item).get("hosts") or ()]
        for bound_to in known:
            if not any(_serves(bound_to, host, namespace_of(item)) for host in hosts):
                message = f"{reference(bound_to)} serves none of the hosts for this namespace"
                yield Finding(item, "spec.gateways", message)
        for index, host in enumerate(hosts):
            if not any(_serves(gateway, host, namespace_of(item)) for gateway in known):
                message = f"no server of {', '.join(bound)} serves {host} for this namespace"
                yield Finding(item, f"spec.hosts[{index}]", message)


def _serves(gateway: Object, host: str, namespace: str) -> bool:
    for server in spec_of(gateway).get("servers") or ():
        for entry in map(str, server.get("hosts") or ()):
            where, _, pattern = entry.rpartition("/")
            if where == ".":
                where = namespace_of(gateway)
            if where not in ("", "*", namespace):
                continue
            if pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:])):
                return True
    return False
