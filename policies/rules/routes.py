"""Routes that do what they look like: hosts and matches without rivals, weights that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policies.access_rules import allows, any_covers, clauses
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.routing import (
    MESH,
    HttpRoute,
    delegate_of,
    gateways_of,
    http_routes,
    public_routes,
    rewritten,
    served_routes,
    uri_of,
)
from policies.stack import Stack
from semantics.delegates import merged

_VIRTUAL_SERVICE = "https://istio.io/latest/docs/reference/config/networking/virtual-service/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"


class _Entry(NamedTuple):
    """One match of one route, for comparing across VirtualServices."""

    route: HttpRoute
    how: str
    value: str
    match: Mapping[str, Any]


@stack_policy(
    "route-hosts-distinct",
    title="No two VirtualServices claim the same requests",
    severity=Severity.HIGH,
    codes=("IST0109", "KIA1106"),
    text="Inside the mesh one VirtualService has a host. At a gateway several may share a host as "
    "long as no path matches in two of them: Istio tries them in an order that nobody declares.",
    remedy="Merge the two, or make their paths disjoint.",
    url=_ANALYSIS + "ist0109/",
)
def hosts_distinct(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares hosts in the mesh, and paths at gateways."""
    in_mesh: dict[str, list[Object]] = {}
    at_gateways: dict[tuple[str, str], list[_Entry]] = {}
    for item in stack.of("VirtualService"):
        for host in map(str, spec_of(item).get("hosts") or ()):
            full = stack.fqdn(host, namespace_of(item))
            for gateway in gateways_of(item):
                if gateway == MESH:
                    rival = next(
                        (r for r in in_mesh.get(full, ()) if _meet_somewhere(r, item)), None
                    )
                    in_mesh.setdefault(full, []).append(item)
                    if rival is not None:
                        yield Finding(item, "spec.hosts", f"{reference(rival)} has {host} too")
                else:
                    at_gateways.setdefault((gateway, host), []).extend(_entries(stack, item))
    for (gateway, host), entries in at_gateways.items():
        yield from _overlaps(entries, f"on {host} at {gateway}")


def _meet_somewhere(one: Object, other: Object) -> bool:
    """Whether some namespace sees both."""
    seen = []
    for item in (one, other):
        exported = [str(e) for e in spec_of(item).get("exportTo") or ("*",)]
        seen.append({namespace_of(item) if e == "." else e for e in exported})
    return "*" in seen[0] | seen[1] or bool(seen[0] & seen[1])


def _entries(stack: Stack, item: Object) -> Iterator[_Entry]:
    for route in served_routes(stack, item):
        for match in route.matches:
            yield _Entry(route, *uri_of(match), match)


def _overlaps(entries: list[_Entry], where: str) -> Iterator[Finding]:
    by_prefix: dict[str, list[_Entry]] = {}
    by_exact: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.how == "prefix":
            by_prefix.setdefault(entry.value, []).append(entry)
        elif entry.how == "exact":
            by_exact.setdefault(entry.value, []).append(entry)
    reported: set[tuple[int, int]] = set()
    for entry in entries:
        if entry.how not in ("prefix", "exact"):
            continue
        rivals = [
            r for n in range(len(entry.value) + 1) for r in by_prefix.get(entry.value[:n], ())
        ]
        if entry.how == "exact":
            rivals += by_exact[entry.value]
        for rival in rivals:
            one, other = rival.route.served_by, entry.route.served_by
            pair = (min(id(one), id(other)), max(id(one), id(other)))
            if one is other or pair in reported or _separate(rival, entry):
                continue
            reported.add(pair)
            message = f"{entry.value or 'every path'} {where} is also taken by {reference(one)}"
            yield Finding(entry.route.virtual_service, f"{entry.route.path}.match", message)


def _separate(one: _Entry, other: _Entry) -> bool:
    """Whether methods keep the two apart."""
    first, second = one.route.methods, other.route.methods
    return first is not None and second is not None and not first & second


@stack_policy(
    "route-reachable",
    title="Every route can be reached",
    severity=Severity.MEDIUM,
    codes=("IST0130", "IST0131"),
    text="No route stands behind one that already takes all its requests. Istio tries routes in "
    "their order; what stands behind a catch-all never runs.",
    remedy="Put the narrower route first, or delete it.",
    url=_ANALYSIS + "ist0130/",
)
def reachable(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares each match with those of the routes before."""
    for item in stack.of("VirtualService"):
        before: list[tuple[HttpRoute, Mapping[str, Any]]] = []
        for route in served_routes(stack, item):
            takers = [
                next((earlier for earlier, taken in before if _takes_all(taken, match)), None)
                for match in route.matches
            ]
            if takers and all(takers):
                first = next(t for t in takers if t)
                message = f"route {route.named} never runs: {first.named} takes all its requests"
                yield Finding(route.virtual_service, route.path, message)
            before += [(route, match) for match in route.matches]


def _takes_all(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    how, value = uri_of(wide)
    narrow_how, narrow_value = uri_of(narrow)
    match how:
        case "prefix":
            takes = (narrow_how != "regex" and narrow_value.startswith(value)) or not value
        case _:
            takes = (how, value) == (narrow_how, narrow_value)
    rest = {key: wide[key] for key in wide if key not in ("uri", "name", "ignoreUriCase")}
    for key, wanted in rest.items():
        if key in ("headers", "queryParams"):
            theirs = narrow.get(key) or {}
            takes = takes and all(theirs.get(name) == value for name, value in wanted.items())
        else:
            takes = takes and narrow.get(key) == wanted
    return bool(takes)


@stack_policy(
    "delegate-exists",
    title="Routes hand over to VirtualServices that are there",
    severity=Severity.HIGH,
    text="The delegate that a route names is a VirtualService without hosts, and each of its routes "
    "lies within the matches of the route that names it. Istio leaves out what does not, a delegate "
    "of a delegate too, and requests then go by the next route that takes them.",
    remedy="Correct the name, delete the delegate's hosts, or repeat the root's prefix in it.",
    url=_VIRTUAL_SERVICE + "#Delegate",
)
def delegate_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Follows each delegation once."""
    known = {(namespace_of(vs), name_of(vs)) for vs in stack.of("VirtualService")}
    for item in stack.of("VirtualService"):
        for route in http_routes(item):
            key = delegate_of(route)
            if key is None:
                continue
            path, name = f"{route.path}.delegate", "/".join(key)
            if item is stack.delegates.get((namespace_of(item), name_of(item))):
                yield Finding(item, path, "a delegate's delegate is not followed")
            elif key not in known:
                yield Finding(item, path, f"there is no VirtualService {name}")
            elif key not in stack.delegates:
                yield Finding(item, path, f"VirtualService {name} has hosts and is no delegate")
            else:
                for own in http_routes(stack.delegates[key]):
                    if merged(route.route, own.route) is None:
                        message = f"not within the matches of {reference(item)}, and left out"
                        yield Finding(stack.delegates[key], f"{own.path}.match", message)


@object_policy(
    "route-weights",
    "VirtualService",
    title="Weights sum to 100",
    severity=Severity.HIGH,
    codes=("TIS1103", "KIA1104"),
    text="The weights of a route's destinations are there for all of them and sum to 100. Istio "
    "takes them as proportions, so 90 and 20 send 82 and 18 percent.",
    remedy="Make the weights percentages that sum to 100.",
    url=_VIRTUAL_SERVICE + "#HTTPRouteDestination",
)
def weights(item: Object, _: Config) -> Iterator[Finding]:
    """Adds up each route's weights."""
    for protocol in ("http", "tls", "tcp"):
        for index, route in enumerate(spec_of(item).get(protocol) or ()):
            targets = route.get("route") or ()
            given = [target["weight"] for target in targets if target.get("weight") is not None]
            path = f"spec.{protocol}[{index}].route"
            if given and len(given) < len(targets):
                yield Finding(item, path, "some destinations have a weight and some have none")
            elif (given and sum(given) != 100) or (len(targets) > 1 and not given):
                yield Finding(item, path, f"the weights sum to {sum(given)}, not to 100")


@object_policy(
    "route-destinations-distinct",
    "VirtualService",
    title="A route names each destination once",
    severity=Severity.MEDIUM,
    codes=("KIA1105",),
    text="No two destinations of a route have the same host, subset and port: the split that it "
    "looks like does not take place.",
    remedy="Merge the two, or correct the subset.",
    url=_VIRTUAL_SERVICE + "#Destination",
)
def destinations_distinct(item: Object, _: Config) -> Iterator[Finding]:
    """Counts the destinations of each route."""
    for route in http_routes(item):
        targets = Counter(
            (d.get("host"), d.get("subset"), (d.get("port") or {}).get("number"))
            for d in ((entry.get("destination") or {}) for entry in route.route.get("route") or ())
        )
        for (host, subset, _port), count in targets.items():
            if count > 1:
                named = f"{host} subset {subset}" if subset else f"{host}"
                yield Finding(item, f"{route.path}.route", f"{named} is named {count} times")


@object_policy(
    "route-hosts-exact",
    "VirtualService",
    title="VirtualServices name whole hosts",
    severity=Severity.HIGH,
    codes=("KIA1108",),
    text="No host is a wildcard: it takes in hosts that are added later, and other teams'.",
    remedy="List the hosts.",
    url=_VIRTUAL_SERVICE,
)
def hosts_exact(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for an asterisk."""
    for index, host in enumerate(spec_of(item).get("hosts") or ()):
        if "*" in str(host):
            yield Finding(item, f"spec.hosts[{index}]", f"{host} is a wildcard")


@object_policy(
    "host-qualified",
    "VirtualService",
    "DestinationRule",
    title="Services are named in full",
    severity=Severity.LOW,
    enforcement=Enforcement.ADVISORY,
    reason="a short name works, until the object is copied to another namespace",
    text="Hosts of Services are full names. A short name means the namespace of the object that "
    "names it, not the one of the Service.",
    remedy="Write service.namespace.svc.cluster.local.",
    url=_VIRTUAL_SERVICE + "#Destination",
)
def host_qualified(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for hosts without a dot."""
    if item.get("kind") == "DestinationRule":
        named = [("spec.host", str(spec_of(item).get("host", "")))]
    else:
        named = [
            (f"{path}.host", str(destination.get("host", "")))
            for route in http_routes(item)
            for path, destination in route.destinations()
        ]
    for path, host in named:
        if host and "." not in host and host != "*":
            yield Finding(item, path, f"{host} is a short name")


@stack_policy(
    "route-is-allowed",
    title="What a gateway routes to, policies let it reach",
    severity=Severity.HIGH,
    text="A Service behind a public route has an ALLOW for the gateway's account that takes in "
    "the path that it sees, after rewriting. A route without it answers 403; it is either a "
    "mistake in the policies, or it exposes a service that was never meant to be public.",
    remedy="Delete the route, or allow the gateway's account on the route's path.",
    url="https://istio.io/latest/docs/concepts/security/#authorization-policies",
)
def route_is_allowed(stack: Stack, _: Config) -> Iterator[Finding]:
    """Follows each public route to the workloads behind it."""
    gateways = [
        f"{domain}/ns/{account.replace('/', '/sa/')}"
        for account in stack.gateway_accounts
        for domain in stack.trust_domains
    ]
    allowed: dict[tuple[str, str], list[tuple[str, ...]] | None] = {}
    for route in public_routes(stack) if gateways else ():
        for _path, destination in route.destinations():
            namespace = namespace_of(route.virtual_service)
            service = stack.service_of(str(destination.get("host", "")), namespace)
            if service is None or service not in stack.services:
                continue
            if service not in allowed:
                allowed[service] = _allowed_paths(stack, service, gateways)
            paths = allowed[service]
            if paths is None:
                continue
            for match in route.matches:
                how, value = rewritten(route.route, *uri_of(match))
                wanted = f"{value}*" if how == "prefix" else value
                if how == "regex" or any(_meet(ps, wanted) for ps in paths):
                    continue
                name = f"{service[0]}/{service[1]}"
                message = f"no ALLOW of {name} lets the gateway ask for {value or 'any path'}"
                yield Finding(route.virtual_service, f"{route.path}.match", message)
                break


def _allowed_paths(
    stack: Stack, service: tuple[str, str], gateways: list[str]
) -> list[tuple[str, ...]] | None:
    """Paths that each clause lets the gateway ask for; None where nothing restricts it."""
    selector = spec_of(stack.services[service]).get("selector") or {}
    found: list[tuple[str, ...]] = []
    workloads = stack.selected(selector, service[0])
    if not workloads or not any(w.proxied for w in workloads):
        return None
    for workload in workloads:
        policies = stack.applying("AuthorizationPolicy", workload)
        if not policies:
            return None
        for policy in policies:
            for clause in clauses(policy) if allows(policy) else ():
                principals = clause.fields.get("principals")
                if principals is None or any(any_covers(principals, g) for g in gateways):
                    found.append(clause.fields.get("paths", ("*",)))
    return found


def _meet(patterns: tuple[str, ...], wanted: str) -> bool:
    """Whether a pattern takes in some of the requests."""
    return any_covers(patterns, wanted) or any(any_covers((wanted,), p) for p in patterns)
