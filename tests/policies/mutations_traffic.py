"""Weakenings of routes, destinations and gateways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.policies.mutants import (
    NothingToMutate,
    Object,
    Objects,
    apps,
    at_gateway,
    every,
    gateway_selector,
    http,
    made,
    mutation,
    name,
    namespace,
    one,
    public,
    root,
    route,
    servers,
    uris,
    without,
)

NETWORKING = "networking.istio.io/v1"


def _weighted(o: Objects) -> list[Object]:
    """Destinations of a route that is split."""
    found: list[Object] = route(o, lambda r: len(r["route"]) > 1)["route"]
    return found


def _takes_post(each: Object) -> bool:
    matches: list[Object] = each.get("match") or [{}]
    methods = [m.get("method") for m in matches]
    return any(m is None or "POST" in str(m) for m in methods)


def _subsets(o: Objects) -> list[Object]:
    rule = one(o, "DestinationRule", lambda r: len(r["spec"].get("subsets") or ()) > 1)
    found: list[Object] = rule["spec"]["subsets"]
    return found


# What routes name


@mutation("a route to a host that does not exist", "host-exists")
def _(o: Objects) -> None:
    destination = route(o, lambda r: "route" in r)["route"][0]["destination"]
    destination["host"] = f"no-such-service.{apps(o)}.svc.cluster.local"


@mutation("a mirror to a host that does not exist", "host-exists")
def _(o: Objects) -> None:
    route(o, lambda r: "route" in r)["mirror"] = {"host": "shadow.example"}


@mutation("a DestinationRule for a host that does not exist", "host-exists")
def _(o: Objects) -> None:
    rule = one(o, "DestinationRule")
    rule["spec"]["host"] = f"no-such-service.{apps(o)}.svc.cluster.local"


@mutation("a Sidecar for a host that does not exist", "host-exists")
def _(o: Objects) -> None:
    sidecar = one(o, "Sidecar", lambda s: bool(s["spec"].get("egress")))
    sidecar["spec"]["egress"][0]["hosts"].append(f"./misspelt.{apps(o)}.svc.cluster.local")


@mutation("a route to a port that no Service has", "route-port-exists")
def _(o: Objects) -> None:
    destination = route(o, lambda r: "route" in r)["route"][0]["destination"]
    destination["port"]["number"] = 8888


@mutation("a routed port on which no HTTP is read", "route-port-speaks-http")
def _(o: Objects) -> None:
    host = route(o, lambda r: "route" in r)["route"][0]["destination"]["host"].split(".")[0]
    port = one(o, "Service", lambda s: name(s) == host)["spec"]["ports"][0]
    port |= {"name": "tcp", "appProtocol": "tcp"}


@mutation("copies of requests to a declared host outside the mesh", "mirror-inside")
def _(o: Objects) -> None:
    outside = one(o, "ServiceEntry")["spec"]["hosts"][0]
    route(o, lambda r: "route" in r)["mirror"] = {"host": outside, "port": {"number": 443}}


@mutation("a route without a port to a Service with several", "route-port-exists")
def _(o: Objects) -> None:
    hosts = {
        s["metadata"]["name"] for s in every(o, "Service") if len(s["spec"].get("ports") or ()) > 1
    }
    each = route(
        o,
        lambda r: (
            r["route"][0]["destination"]["host"].split(".")[0] in hosts if "route" in r else False
        ),
    )
    del each["route"][0]["destination"]["port"]


@mutation("a route to a subset that is not declared", "subset-exists")
def _(o: Objects) -> None:
    _weighted(o)[0]["destination"]["subset"] = "v9"


@mutation("a route on a gateway that does not exist", "route-gateway-exists")
def _(o: Objects) -> None:
    item = one(o, "VirtualService", at_gateway)
    item["spec"]["gateways"] = [f"{root(o)}/no-such-gateway"]


@mutation("a route for a host that its gateway does not serve", "route-gateway-exists")
def _(o: Objects) -> None:
    one(o, "VirtualService", at_gateway)["spec"]["hosts"] = ["other.example"]


@mutation("a route to a service that is not public", "route-is-allowed")
def _(o: Objects) -> None:
    routed = {
        entry["destination"]["host"]
        for v in every(o, "VirtualService", at_gateway)
        for each in http(v)
        for entry in each.get("route") or ()
    }
    hidden = one(
        o,
        "Service",
        lambda s: (
            namespace(s) == apps(o)
            and not any(h.startswith(f"{s['metadata']['name']}.") for h in routed)
            and s["metadata"]["name"] in {a["metadata"]["name"] for a in every(o, "Sidecar")}
        ),
    )
    item = one(o, "VirtualService", at_gateway)
    added = copy.deepcopy(http(item)[-1])
    host = f"{hidden['metadata']['name']}.{apps(o)}.svc.cluster.local"
    port = {"number": hidden["spec"]["ports"][0]["port"]}
    added["match"] = [{"uri": {"prefix": "/api/v1/hidden/"}}]
    added["route"] = [{"destination": {"host": host, "port": port}}]
    http(item).append(added)


# Routes and their rivals


@mutation("two VirtualServices for a path of a host", "route-hosts-distinct")
def _(o: Objects) -> None:
    item = copy.deepcopy(one(o, "VirtualService", at_gateway))
    item["metadata"]["name"] = "rival"
    o.append(item)


@mutation("a catch-all route beside other services' routes", "route-hosts-distinct")
def _(o: Objects) -> None:
    item = copy.deepcopy(one(o, "VirtualService", at_gateway))
    item["metadata"]["name"] = "rival"
    each = http(item)[-1]
    each["match"] = [{"uri": {"prefix": "/"}}]
    item["spec"]["http"] = [each]
    o.append(item)


@mutation("two VirtualServices for a host in the mesh", "route-hosts-distinct")
def _(o: Objects) -> None:
    item = copy.deepcopy(one(o, "VirtualService", lambda v: not at_gateway(v)))
    item["metadata"]["name"] = "rival"
    o.append(item)


@mutation("a catch-all before the other routes", "route-reachable")
def _(o: Objects) -> None:
    item = one(o, "VirtualService", lambda v: at_gateway(v) and len(http(v)) > 1)
    first = copy.deepcopy(http(item)[-1])
    del first["match"]
    http(item).insert(0, first)


@mutation("weights 90 and 20", "route-weights")
def _(o: Objects) -> None:
    for target, weight in zip(_weighted(o), (90, 20), strict=False):
        target["weight"] = weight


@mutation("a split without weights", "route-weights")
def _(o: Objects) -> None:
    for target in _weighted(o):
        del target["weight"]


@mutation("both halves of a split to the same subset", "route-destinations-distinct")
def _(o: Objects) -> None:
    targets = _weighted(o)
    targets[1]["destination"]["subset"] = targets[0]["destination"]["subset"]


@mutation("a VirtualService for every host", "route-hosts-exact")
def _(o: Objects) -> None:
    one(o, "VirtualService", at_gateway)["spec"]["hosts"] = ["*"]


@mutation("a service by its short name", "host-qualified")
def _(o: Objects) -> None:
    destination = route(o, lambda r: "route" in r)["route"][0]["destination"]
    destination["host"] = destination["host"].split(".")[0]


# Bounds


@mutation("no timeout", "route-timeout")
def _(o: Objects) -> None:
    del route(o, lambda r: "timeout" in r)["timeout"]


@mutation("timeout zero, which is none", "route-timeout")
def _(o: Objects) -> None:
    route(o, lambda r: "timeout" in r)["timeout"] = "0s"


@mutation("a timeout of a day", "route-timeout")
def _(o: Objects) -> None:
    route(o, lambda r: "timeout" in r)["timeout"] = "24h"


@mutation("tries that do not fit into the timeout", "retries-fit-timeout")
def _(o: Objects) -> None:
    each = route(o, lambda r: (r.get("retries") or {}).get("perTryTimeout") is not None)
    each["retries"]["perTryTimeout"] = each["timeout"]


@mutation("fifty retries", "retries-fit-timeout")
def _(o: Objects) -> None:
    route(o, lambda r: "retries" in r)["retries"] = {"attempts": 50}


@mutation("retries on POST /api/v1/ai", "retries-idempotent")
def _(o: Objects) -> None:
    each = route(o, lambda r: "/api/v1/ai" in uris(r) and _takes_post(r))
    each["retries"] = {"attempts": 2, "perTryTimeout": "10s", "retryOn": "5xx,reset"}


@mutation("Istio's default retries on a route that takes POST", "retries-idempotent")
def _(o: Objects) -> None:
    del route(o, lambda r: "retries" in r and _takes_post(r))["retries"]


@mutation("a fault left in", "no-faults-left")
def _(o: Objects) -> None:
    route(o, lambda r: "route" in r)["fault"] = {
        "abort": {"httpStatus": 503, "percentage": {"value": 1}}
    }


@mutation("a tenant that a route writes", "route-sets-no-claim")
def _(o: Objects) -> None:
    outputs = [
        output["header"]
        for item in every(o, "RequestAuthentication")
        for rule in item["spec"]["jwtRules"]
        for output in rule.get("outputClaimToHeaders") or ()
    ]
    headers = route(o, lambda r: "route" in r).setdefault("headers", {})
    headers.setdefault("request", {})["set"] = {outputs[0]: "somebody"}


@mutation("a path rewritten to one for operators", "route-is-allowed")
def _(o: Objects) -> None:
    route(o, lambda r: "route" in r and bool(uris(r)))["rewrite"] = {"uri": "/metrics"}


def _cors(title: str, origin: Object) -> None:
    @mutation(f"CORS for {title}", "cors-origins")
    def _(o: Objects) -> None:
        route(o, lambda r: "corsPolicy" in r)["corsPolicy"]["allowOrigins"] = [origin]


_cors("every origin with TLS", {"regex": "https://.*"})
_cors("every origin of a domain of everybody's", {"regex": r".*\.com"})
_cors("origins that begin like ours", {"prefix": "https://app"})
_cors("pages in a sandbox", {"exact": "null"})


@mutation("CORS for every origin", "cors-origins")
def _(o: Objects) -> None:
    route(o, lambda r: "corsPolicy" in r)["corsPolicy"]["allowOrigins"] = [{"regex": ".*"}]


@mutation("no outlier detection", "destination-bounded")
def _(o: Objects) -> None:
    rule = one(o, "DestinationRule", lambda r: "outlierDetection" in r["spec"]["trafficPolicy"])
    del rule["spec"]["trafficPolicy"]["outlierDetection"]


@mutation("all instances ejected at once", "destination-bounded")
def _(o: Objects) -> None:
    rule = one(o, "DestinationRule", lambda r: "outlierDetection" in r["spec"]["trafficPolicy"])
    rule["spec"]["trafficPolicy"]["outlierDetection"]["maxEjectionPercent"] = 100


@mutation("no limits on callers", "destination-bounded")
def _(o: Objects) -> None:
    rule = one(o, "DestinationRule", lambda r: "connectionPool" in r["spec"]["trafficPolicy"])
    del rule["spec"]["trafficPolicy"]["connectionPool"]


# Subsets


@mutation("a subset without pods", "subset-selects", stack="dev")
def _(o: Objects) -> None:
    _subsets(o)[1]["labels"] = {"version": "v9"}


@mutation("a subset without labels", "subset-selects")
def _(o: Objects) -> None:
    del _subsets(o)[1]["labels"]


@mutation("two subsets with the same pods", "subset-selects")
def _(o: Objects) -> None:
    subsets = _subsets(o)
    subsets[1]["labels"] = dict(subsets[0]["labels"])


@mutation("a subset of another service's pods", "subset-selects")
def _(o: Objects) -> None:
    _subsets(o)[1]["labels"]["app"] = "another-service"


@mutation("two DestinationRules for a host", "destination-rules-distinct")
def _(o: Objects) -> None:
    rule = copy.deepcopy(one(o, "DestinationRule"))
    rule["metadata"]["name"] = "rival"
    o.append(rule)


# Gateways


@mutation("plain HTTP without a redirect", "gateway-encrypted")
def _(o: Objects) -> None:
    for gateway in every(o, "Gateway"):
        for server in gateway["spec"]["servers"]:
            if (server.get("tls") or {}).get("httpsRedirect"):
                del server["tls"]


@mutation("TLS 1.0", "gateway-tls-modern")
def _(o: Objects) -> None:
    servers(o, "SIMPLE")[0]["tls"]["minProtocolVersion"] = "TLSV1_0"


@mutation("a cipher suite without forward secrecy", "gateway-tls-modern")
def _(o: Objects) -> None:
    servers(o, "SIMPLE")[0]["tls"].setdefault("cipherSuites", []).append("AES128-SHA")


@mutation("TLS passed through the gateway", "gateway-ends-tls")
def _(o: Objects) -> None:
    servers(o, "ISTIO_MUTUAL")[0]["tls"]["mode"] = "AUTO_PASSTHROUGH"


@mutation("a gateway for every host", "gateway-hosts-exact")
def _(o: Objects) -> None:
    servers(o, "SIMPLE")[0]["hosts"] = ["*"]


@mutation("a gateway for every host of a domain", "gateway-hosts-exact")
def _(o: Objects) -> None:
    server = servers(o, "SIMPLE")[0]
    server["hosts"] = [h.replace("/api.", "/*.") for h in server["hosts"]]


@mutation("a public host that any namespace may claim", "gateway-hosts-owned")
def _(o: Objects) -> None:
    server = servers(o, "SIMPLE")[0]
    server["hosts"] = [h.split("/")[-1] for h in server["hosts"]]


@mutation("two gateways for a host and port", "gateway-distinct")
def _(o: Objects) -> None:
    server = copy.deepcopy(servers(o, "SIMPLE")[0])
    spec = {"selector": gateway_selector(o), "servers": [server]}
    o.append(made("Gateway", NETWORKING, root(o), spec))


@mutation("two Gateway objects with a certificate", "gateway-certificate-shared")
def _(o: Objects) -> None:
    server = copy.deepcopy(servers(o, "SIMPLE")[0])
    server["hosts"] = [f"{apps(o)}/other.example"]
    spec = {"selector": gateway_selector(o), "servers": [server]}
    o.append(made("Gateway", NETWORKING, root(o), spec))


@mutation("a server without a certificate", "gateway-certificate")
def _(o: Objects) -> None:
    del servers(o, "SIMPLE")[0]["tls"]["credentialName"]


@mutation("a server on a port that no Service opens", "gateway-port-served")
def _(o: Objects) -> None:
    servers(o, "SIMPLE")[0]["port"]["number"] = 8443


@mutation("a service with a load balancer of its own", "way-in-is-the-gateway")
def _(o: Objects) -> None:
    one(o, "Service", lambda s: namespace(s) == apps(o))["spec"]["type"] = "LoadBalancer"


@mutation("an Ingress beside the gateway", "way-in-is-the-gateway")
def _(o: Objects) -> None:
    o.append(made("Ingress", "networking.k8s.io/v1", apps(o), {"rules": []}))


@mutation("a gateway that selects no pods", "selector-selects")
def _(o: Objects) -> None:
    one(o, "Gateway")["spec"]["selector"] = {"istio": "no-such-gateway"}


@mutation("a port that does not say what it speaks", "port-named")
def _(o: Objects) -> None:
    service = one(o, "Service", lambda s: namespace(s) == apps(o))
    port = service["spec"]["ports"][0]
    port.pop("appProtocol", None)
    port["name"] = "main"


@mutation("no policy for the gateway at a service", "route-is-allowed")
def _(o: Objects) -> Objects:
    hosts = {
        entry["destination"]["host"].split(".")[0]
        for v in every(o, "VirtualService", at_gateway)
        for each in http(v)
        for entry in each.get("route") or ()
    }
    gone = [
        p
        for p in every(o, "AuthorizationPolicy")
        if (p["spec"].get("selector") or {}).get("matchLabels", {}).get("app") in hosts
        and not public(p)
        and p["spec"].get("action") == "ALLOW"
    ]
    return without(o, *gone)


@mutation("requests through somebody's tunnel", "destination-is-the-service")
def _(o: Objects) -> None:
    tunnel = {"protocol": "CONNECT", "targetHost": "evil.example", "targetPort": 443}
    one(o, "DestinationRule")["spec"]["trafficPolicy"]["tunnel"] = tunnel


@mutation("another mesh's certificates taken for a Service's", "destination-is-the-service")
def _(o: Objects) -> None:
    tls = {"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://evil.example/ns/a/sa/b"]}
    one(o, "DestinationRule")["spec"]["trafficPolicy"]["tls"] = tls


# Delegates


def _hand_over(o: Objects, where: Callable[[Object], bool]) -> tuple[Object, Object]:
    """Moves a route of a public VirtualService into a delegate: (its route there, the root's)."""
    for item in every(o, "VirtualService", at_gateway):
        for index, each in enumerate(http(item)):
            if where(each):
                spec = {"http": [each]}
                o.append(made("VirtualService", "networking.istio.io/v1", namespace(item), spec))
                root = {"match": each["match"], "delegate": {"name": "mutant"}}
                http(item)[index] = root
                return each, root
    raise NothingToMutate("no such route")


@mutation("a route handed over to nobody", "delegate-exists")
def _(o: Objects) -> None:
    _, root = _hand_over(o, lambda r: "route" in r)
    root["delegate"]["name"] = "nobody"


@mutation("a service that refuses the gateway, by a delegate", "route-is-allowed")
def _(o: Objects) -> None:
    own, _ = _hand_over(o, lambda r: "route" in r)
    outside = {d["destination"]["host"] for r in _all_routes(o) for d in r.get("route") or ()}
    ns = apps(o)
    hosts = {
        f"{name(s)}.{ns}.svc.cluster.local": s for s in every(o, "Service") if namespace(s) == ns
    }
    inside = next(host for host in hosts if host not in outside)
    port = hosts[inside]["spec"]["ports"][0]["port"]
    own["route"] = [{"destination": {"host": inside, "port": {"number": port}}}]


def _all_routes(o: Objects) -> list[Object]:
    return [r for item in every(o, "VirtualService", at_gateway) for r in http(item)]


@mutation("no timeout, by a delegate", "route-timeout")
def _(o: Objects) -> None:
    own, _ = _hand_over(o, lambda r: "route" in r and "timeout" in r)
    del own["timeout"]


@mutation("an operation taken by a delegate of somebody", "route-hosts-distinct")
def _(o: Objects) -> None:
    item = one(o, "VirtualService", lambda v: at_gateway(v) and any(uris(r) for r in http(v)))
    match = next(r for r in http(item) if uris(r))["match"]
    delegate = {"http": [{"match": match, "redirect": {"uri": "/"}}]}
    o.append(made("VirtualService", "networking.istio.io/v1", namespace(item), delegate))
    spec = {**item["spec"], "http": [{"delegate": {"name": "mutant"}}]}
    metadata = {"name": "root-of-somebody"}
    o.append(made("VirtualService", "networking.istio.io/v1", namespace(item), spec, metadata))


# Gateway API


def _side_door(o: Objects, **listener: Any) -> None:
    api = "gateway.networking.k8s.io/v1"
    listeners = [{"name": "x", "port": 443, "protocol": "HTTPS", **listener}]
    o.append(made("Gateway", api, apps(o), {"gatewayClassName": "istio", "listeners": listeners}))
    service = one(o, "Service", lambda s: namespace(s) == apps(o))
    backend = {"name": name(service), "port": service["spec"]["ports"][0]["port"]}
    spec = {"parentRefs": [{"name": "mutant"}], "rules": [{"backendRefs": [backend]}]}
    o.append(made("HTTPRoute", api, apps(o), spec))


@mutation("a Gateway of the Gateway API", "way-in-is-judged")
def _(o: Objects) -> None:
    _side_door(o)


@mutation("an HTTPRoute in the place of a VirtualService", "way-in-is-judged")
def _(o: Objects) -> Objects:
    _side_door(o)
    return [item for item in o if item["kind"] != "Gateway" or "servers" in item["spec"]]


@mutation("a Gateway of the Gateway API in plain text", "gateway-api-encrypted")
def _(o: Objects) -> None:
    _side_door(o, protocol="HTTP", port=80)


@mutation("a Gateway of the Gateway API for every namespace", "gateway-api-hosts-owned")
def _(o: Objects) -> None:
    _side_door(o, allowedRoutes={"namespaces": {"from": "All"}})
