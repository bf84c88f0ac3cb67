"""Weakenings that look like a restriction, a default or another spelling of the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.policies.mutants import (
    NothingToMutate,
    Object,
    Objects,
    apps,
    by_peer,
    by_token,
    conditions,
    deny_all,
    every,
    gateway_selector,
    made,
    matches,
    mutation,
    namespace,
    one,
    operations,
    policy,
    servers,
    sources,
)

SECURITY = "security.istio.io/v1"
NETWORKING = "networking.istio.io/v1"
ALL_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


# Modes that nobody names, or names as Istio does not


def _rule(o: Objects) -> Object:
    spec: Object = one(
        o,
        "DestinationRule",
        lambda d: bool(d["spec"].get("subsets") and d["spec"].get("trafficPolicy")),
    )["spec"]
    return spec


@mutation("TLS settings without a mode", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["trafficPolicy"]["tls"] = {"sni": "api.example"}


@mutation("TLS settings without a mode for a port", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["trafficPolicy"]["portLevelSettings"] = [{"port": {"number": 8080}, "tls": {}}]


@mutation("TLS settings without a mode for a subset", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["subsets"][0]["trafficPolicy"] = {"tls": {"sni": "api.example"}}


@mutation("TLS settings without a mode for a port of a subset", "client-tls-on")
def _(o: Objects) -> None:
    ports = [{"port": {"number": 8080}, "tls": {}}]
    _rule(o)["subsets"][0]["trafficPolicy"] = {"portLevelSettings": ports}


@mutation("a TLS mode in small letters", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["trafficPolicy"]["tls"] = {"mode": "istio_mutual"}


@mutation("a mode of mutual TLS in small letters", "mtls-strict")
def _(o: Objects) -> None:
    item = one(o, "PeerAuthentication", lambda p: namespace(p) == apps(o))
    item["spec"]["mtls"]["mode"] = "permissive"


@mutation("a second mesh-wide PeerAuthentication by an empty selector", "mtls-strict-root")
def _(o: Objects) -> None:
    spec = {"selector": {"matchLabels": {}}, "mtls": {"mode": "UNSET"}}
    o.append(made("PeerAuthentication", SECURITY, namespace(deny_all(o)), spec))


@mutation("a public server with a certificate and no mode", "gateway-ends-tls")
def _(o: Objects) -> None:
    del servers(o, "SIMPLE")[0]["tls"]["mode"]


@mutation("the entry for other clusters passes TLS on", "gateway-ends-tls")
def _(o: Objects) -> None:
    servers(o, "ISTIO_MUTUAL")[0]["tls"]["mode"] = "AUTO_PASSTHROUGH"


@mutation("a redirect for a protocol that knows none", "gateway-encrypted")
def _(o: Objects) -> None:
    redirecting = [
        s
        for g in every(o, "Gateway")
        for s in g["spec"]["servers"]
        if (s.get("tls") or {}).get("httpsRedirect")
    ]
    redirecting[0]["port"]["protocol"] = "TCP"


# Policies that are there and not enforced


def _demand(o: Objects) -> Object:
    """The policy that refuses requests without a token."""
    return policy(
        o,
        "DENY",
        gateway=True,
        where=lambda p: any("notRequestPrincipals" in s for s in sources(p)),
    )


@mutation("deny by default only tried, in another spelling", "deny-by-default")
def _(o: Objects) -> None:
    deny_all(o)["metadata"]["annotations"] = {"istio.io/dry-run": "True"}


@mutation("a token demanded only as a trial, in another spelling", "gateway-demands-token")
def _(o: Objects) -> None:
    _demand(o)["metadata"]["annotations"] = {"istio.io/dry-run": "1"}


@mutation("an action in small letters", "authorization-enforced")
def _(o: Objects) -> None:
    policy(o, "DENY", gateway=False)["spec"]["action"] = "deny"


@mutation("a token demanded on a port that is asked for twice", "gateway-demands-token")
def _(o: Objects) -> None:
    _demand(o)["spec"]["rules"][0]["when"] = [{"key": "destination.port", "values": ["1"]}]


@mutation("a token demanded on one port, the others in another mode", "gateway-demands-token")
def _(o: Objects) -> None:
    kept = str(servers(o, "ISTIO_MUTUAL")[0]["port"]["number"])
    for server in servers(o, "SIMPLE"):
        server["tls"]["mode"] = "OPTIONAL_MUTUAL"
    for operation in operations(_demand(o)):
        operation["ports"] = [kept]


@mutation("paths with a token declared as open", "gateway-demands-token")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=True, where=by_token)
    path = operations(item)[0]["paths"][0]
    item["metadata"]["annotations"] = {
        "voicemesh.io/public-without-token": "true",
        "voicemesh.io/reason": "nothing in here is open",
    }
    for operation in operations(_demand(o)):
        operation["notPaths"].append(path)


# Callers


def _callers(o: Objects) -> Object:
    return sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]


for _pattern in ("cluster.local/*", "c*", "*-service", "cluster.local/ns/{apps}/sa/s*"):

    @mutation(f"ALLOW callers by the pattern {_pattern}", "allow-names-accounts")
    def _(o: Objects, pattern: str = _pattern) -> None:
        _callers(o)["principals"] = [pattern.format(apps=apps(o))]


@mutation("ALLOW a whole trust domain", "allow-names-accounts")
def _(o: Objects) -> None:
    source = _callers(o)
    source["principals"], source["trustDomains"] = [], ["cluster.local"]


@mutation("ALLOW a namespace beside an empty list of accounts", "allow-names-accounts")
def _(o: Objects) -> None:
    source = _callers(o)
    source["principals"], source["namespaces"] = [], [apps(o)]


@mutation("ALLOW an empty list of callers", "allow-names-callers")
def _(o: Objects) -> None:
    _callers(o)["principals"] = []


@mutation("ALLOW every address instead of callers", "allow-names-callers")
def _(o: Objects) -> None:
    source = _callers(o)
    source["principals"], source["ipBlocks"] = [], ["0.0.0.0/0"]


@mutation("a rule of empty lists", "allow-names-callers")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_peer)
    item["spec"]["rules"].append({"from": [], "to": [], "when": []})


@mutation("ALLOW issuers by a pattern", "allow-names-issuers")
def _(o: Objects) -> None:
    sources(policy(o, "ALLOW", gateway=True, where=by_token))[0]["requestPrincipals"] = ["https*"]


# Broad rules that name fields which ask nothing


def _beside(o: Objects, change: Callable[[Object, Object], Any]) -> None:
    """Adds a rule for the callers of a narrow one; `change` sets its operation and the rest."""
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    operation: Object = {}
    rule: Object = {"from": [{"source": dict(sources(item)[0])}], "to": [{"operation": operation}]}
    change(rule, operation)
    if not operation:
        del rule["to"]
    spec = {"action": "ALLOW", "selector": item["spec"]["selector"], "rules": [rule]}
    o.append(made("AuthorizationPolicy", SECURITY, namespace(item), spec))


_NOTHING_ASKED: dict[str, Callable[[Object, Object], Any]] = {
    "any host": lambda _, op: op.update(hosts=["*"]),
    "any path by a template": lambda _, op: op.update(paths=["/{**}"]),
    "paths by their first letter": lambda _, op: op.update(paths=["/a*"]),
    "all methods": lambda _, op: op.update(methods=ALL_METHODS),
    "a claim that every token has": lambda rule, _: rule.update(
        when=[{"key": "request.auth.claims[iss]", "values": ["*"]}]
    ),
    "a header that anybody sends": lambda rule, _: rule.update(
        when=[{"key": "request.headers[x-any]", "values": ["*"]}]
    ),
    "every address": lambda rule, _: rule["from"][0]["source"].update(
        remoteIpBlocks=["0.0.0.0/1", "128.0.0.0/1"]
    ),
}
for _name, _change in _NOTHING_ASKED.items():

    @mutation(f"a broad ALLOW that asks for {_name}", "allow-not-undone")
    def _(o: Objects, change: Callable[[Object, Object], Any] = _change) -> None:
        _beside(o, change)


@mutation("a broad ALLOW that asks for all ports there are", "allow-not-undone")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    ports = sorted({port for op in operations(item) for port in op["ports"]})
    _beside(o, lambda _, op: op.update(ports=ports))


@mutation("ALLOW the gateway by its account instead of its principal", "public-declared")
def _(o: Objects) -> None:
    def change(rule: Object, operation: Object) -> None:
        _, account, _, name = rule["from"][0]["source"]["principals"][0].rsplit("/", 3)
        rule["from"] = [{"source": {"serviceAccounts": [f"{account}/{name}"]}}]
        operation.update(paths=["/another"])

    _beside(o, change)


@mutation("the same requests without a token, by account", "allow-not-undone")
def _(o: Objects) -> None:
    narrow = operations(policy(o, "ALLOW", gateway=False, where=by_token))[0]

    def change(rule: Object, operation: Object) -> None:
        _, account, _, name = rule["from"][0]["source"]["principals"][0].rsplit("/", 3)
        rule["from"] = [{"source": {"serviceAccounts": [f"{account}/{name}"]}}]
        operation.update(narrow)

    _beside(o, change)


# Claims: rules that leave part of what they are for open


def _by_claim(o: Objects, *, gateway: bool, role: bool) -> Object:
    """A DENY about the values of a claim (a role), or about a claim being there (a tenant)."""
    return policy(
        o,
        "DENY",
        gateway=gateway,
        where=lambda p: any(
            c["key"].startswith("request.auth.claims[")
            and "notValues" in c
            and ("*" not in c["notValues"]) == role
            for c in conditions(p)
        ),
    )


def _limited(item: Object, **fields: list[str]) -> None:
    for operation in operations(item):
        operation.update(fields)


def _other_port(o: Objects, item: Object) -> str:
    """A port of a policy's pods that its rules do not name."""
    named = {port for op in operations(item) for port in op["ports"]}
    for service in every(o, "Service", lambda s: namespace(s) == namespace(item)):
        if service["spec"].get("selector") == matches(item):
            for port in service["spec"]["ports"]:
                target = str(port.get("targetPort", port["port"]))
                if target not in named:
                    return target
    raise NothingToMutate("the pods have no other port")


@mutation("a tenant demanded on one of the ports", "declared-claims-demanded")
def _(o: Objects) -> None:
    item = next(
        p
        for p in every(o, "AuthorizationPolicy")
        if any("*" in c.get("notValues", ()) for c in conditions(p))
        and any(len(op.get("ports", ())) > 1 for op in operations(p))
        and not matches(p).items() <= gateway_selector(o).items()
    )
    _limited(item, ports=operations(item)[0]["ports"][:1])


@mutation("a tenant demanded of the gateway only", "declared-claims-demanded")
def _(o: Objects) -> None:
    rule = _by_claim(o, gateway=False, role=False)["spec"]["rules"][0]
    gateway = sources(policy(o, "ALLOW", gateway=False, where=by_token))[0]["principals"]
    rule["from"] = [{"source": {"principals": gateway}}]


@mutation("a tenant demanded at the gateway for one method", "claims-checked-twice")
def _(o: Objects) -> None:
    _limited(_by_claim(o, gateway=True, role=False), methods=["TRACE"])


@mutation("a tenant demanded at the gateway but for one path more", "claims-checked-twice")
def _(o: Objects) -> None:
    tenant = matches(_by_claim(o, gateway=False, role=False))
    allowed = policy(
        o, "ALLOW", gateway=False, where=lambda p: by_token(p) and matches(p) == tenant
    )
    for operation in operations(_by_claim(o, gateway=True, role=False)):
        operation["notPaths"] += operations(allowed)[0]["paths"]


_PART: dict[str, dict[str, list[str]]] = {
    "another method": {"methods": ["TRACE"]},
    "one host": {"hosts": ["nobody.example"]},
}
for _name, _fields in _PART.items():
    for _gateway in (True, False):
        _where = "the gateway" if _gateway else "the service"

        @mutation(f"a role demanded at {_where} for {_name}", "claims-checked-twice")
        def _(o: Objects, fields: dict[str, list[str]] = _fields, gateway: bool = _gateway) -> None:
            _limited(_by_claim(o, gateway=gateway, role=True), **fields)


@mutation("a role demanded at the gateway on one port", "claims-checked-twice")
def _(o: Objects) -> None:
    kept = str(servers(o, "ISTIO_MUTUAL")[0]["port"]["number"])
    _limited(_by_claim(o, gateway=True, role=True), ports=[kept])


@mutation("a role demanded at the service on another port", "claims-checked-twice")
def _(o: Objects) -> None:
    item = _by_claim(o, gateway=False, role=True)
    _limited(item, ports=[_other_port(o, item)])


@mutation("a role demanded at the service of another caller", "claims-checked-twice")
def _(o: Objects) -> None:
    for source in sources(_by_claim(o, gateway=False, role=True)):
        source["principals"] = _callers(o)["principals"]


@mutation("a role demanded at the service without what is below the path", "claims-checked-twice")
def _(o: Objects) -> None:
    for operation in operations(_by_claim(o, gateway=False, role=True)):
        operation["paths"] = [path for path in operation["paths"] if not path.endswith("*")]


@mutation("one more role at the gateway", "claims-checked-twice")
def _(o: Objects) -> None:
    for condition in conditions(_by_claim(o, gateway=True, role=True)):
        condition["notValues"].append("user")


def _addresses(o: Objects) -> Object:
    return policy(
        o, "DENY", gateway=True, where=lambda p: any("notRemoteIpBlocks" in s for s in sources(p))
    )


@mutation("administration from both halves of the internet", "admin-from-known-addresses")
def _(o: Objects) -> None:
    for source in sources(_addresses(o)):
        source["notRemoteIpBlocks"] = ["0.0.0.0/1", "128.0.0.0/1"]


@mutation("addresses of administration for another method", "admin-from-known-addresses")
def _(o: Objects) -> None:
    _limited(_addresses(o), methods=["TRACE"])


@mutation("the entry for other clusters takes any trust domain", "mesh-entry-demands-identity")
def _(o: Objects) -> None:
    item = policy(
        o, "DENY", gateway=True, where=lambda p: any("notPrincipals" in s for s in sources(p))
    )
    sources(item)[0]["notPrincipals"] = ["*"]


# Headers that carry claims


def _required(o: Objects) -> str:
    key = "voicemesh.io/requires-claims"
    service = one(o, "Service", lambda s: key in (s["metadata"].get("annotations") or {}))
    return str(service["metadata"]["annotations"][key])


def _outputs(o: Objects) -> list[Object]:
    return [r for item in every(o, "RequestAuthentication") for r in item["spec"]["jwtRules"]]


@mutation("no rule fills the tenant's header", "claim-headers-guarded")
def _(o: Objects) -> None:
    claim = _required(o)
    for rule in _outputs(o):
        rule["outputClaimToHeaders"] = [
            out for out in rule["outputClaimToHeaders"] if out["claim"] != claim
        ]


@mutation("every rule fills the tenant's header from another claim", "claim-headers-guarded")
def _(o: Objects) -> None:
    claim = _required(o)
    for rule in _outputs(o):
        for out in rule["outputClaimToHeaders"]:
            if out["claim"] == claim:
                out["claim"] = "sub"


@mutation("one rule fills a header from another claim", "claim-headers-guarded")
def _(o: Objects) -> None:
    outs = _outputs(o)[-1]["outputClaimToHeaders"]
    outs[-1]["claim"] = "sub"


@mutation("a gateway without selector keeps the token to itself", "token-forwarded")
def _(o: Objects) -> None:
    selector = gateway_selector(o)
    item = one(
        o,
        "RequestAuthentication",
        lambda r: bool(matches(r) and matches(r).items() <= selector.items()),
    )
    del item["spec"]["selector"]
    for rule in item["spec"]["jwtRules"]:
        rule.pop("forwardOriginalToken")
