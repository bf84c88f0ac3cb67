"""Weakenings of mutual TLS, authorization and tokens."""

from __future__ import annotations

from tests.policies.mutants import (
    Object,
    Objects,
    apps,
    by_peer,
    by_token,
    conditions,
    deny_all,
    every,
    gateway_selector,
    http,
    made,
    matches,
    mutation,
    namespace,
    one,
    operations,
    policy,
    public,
    root,
    sources,
    uris,
    without,
)

SECURITY = "security.istio.io/v1"
NETWORKING = "networking.istio.io/v1"


# Mutual TLS


@mutation("PERMISSIVE for the whole mesh", "mtls-strict")
def _(o: Objects) -> None:
    item = one(o, "PeerAuthentication", lambda p: namespace(p) == root(o))
    item["spec"]["mtls"]["mode"] = "PERMISSIVE"


@mutation("mesh-wide mode unset", "mtls-strict-root")
def _(o: Objects) -> None:
    item = one(o, "PeerAuthentication", lambda p: namespace(p) == root(o))
    item["spec"]["mtls"]["mode"] = "UNSET"


@mutation("no mesh-wide PeerAuthentication", "mtls-strict-root")
def _(o: Objects) -> Objects:
    return without(o, one(o, "PeerAuthentication", lambda p: namespace(p) == root(o)))


@mutation("PERMISSIVE for a namespace", "mtls-strict")
def _(o: Objects) -> None:
    item = one(o, "PeerAuthentication", lambda p: namespace(p) == apps(o))
    item["spec"]["mtls"]["mode"] = "PERMISSIVE"


@mutation("PERMISSIVE for a workload", "mtls-strict")
def _(o: Objects) -> None:
    service = one(o, "Service", lambda s: namespace(s) == apps(o))
    spec = {
        "selector": {"matchLabels": dict(service["spec"]["selector"])},
        "mtls": {"mode": "PERMISSIVE"},
    }
    o.append(made("PeerAuthentication", SECURITY, apps(o), spec))


@mutation("DISABLE for one port of a workload", "mtls-strict")
def _(o: Objects) -> None:
    service = one(o, "Service", lambda s: namespace(s) == apps(o))
    port = service["spec"]["ports"][0]["targetPort"]
    spec = {
        "selector": {"matchLabels": dict(service["spec"]["selector"])},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {str(port): {"mode": "DISABLE"}},
    }
    o.append(made("PeerAuthentication", SECURITY, apps(o), spec))


@mutation("PERMISSIVE where callers are named", "identity-needs-mtls")
def _(o: Objects) -> None:
    for item in every(o, "PeerAuthentication"):
        item["spec"]["mtls"]["mode"] = "PERMISSIVE"


@mutation("second PeerAuthentication for the mesh", "mtls-one-policy")
def _(o: Objects) -> None:
    o.append(made("PeerAuthentication", SECURITY, root(o), {"mtls": {"mode": "STRICT"}}))


# TLS of DestinationRules


def _rule(o: Objects) -> Object:
    rule = one(o, "DestinationRule", lambda r: bool(r["spec"].get("subsets")))
    spec: Object = rule["spec"]
    return spec


@mutation("TLS DISABLE for a host", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["trafficPolicy"]["tls"] = {"mode": "DISABLE"}


@mutation("TLS DISABLE for a port of a host", "client-tls-on")
def _(o: Objects) -> None:
    port = {"port": {"number": 8080}, "tls": {"mode": "DISABLE"}}
    _rule(o)["trafficPolicy"]["portLevelSettings"] = [port]


@mutation("TLS DISABLE for a subset", "client-tls-on")
def _(o: Objects) -> None:
    _rule(o)["subsets"][0]["trafficPolicy"] = {"tls": {"mode": "DISABLE"}}


@mutation("TLS DISABLE for a port of a subset", "client-tls-on")
def _(o: Objects) -> None:
    port = {"port": {"number": 8080}, "tls": {"mode": "DISABLE"}}
    _rule(o)["subsets"][0]["trafficPolicy"] = {"portLevelSettings": [port]}


@mutation("TLS DISABLE for every host of the cluster", "client-tls-on")
def _(o: Objects) -> None:
    spec = {"host": "*.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    o.append(made("DestinationRule", NETWORKING, root(o), spec))


@mutation("SIMPLE TLS inside the mesh", "client-tls-mutual")
def _(o: Objects) -> None:
    _rule(o)["trafficPolicy"]["tls"] = {"mode": "SIMPLE", "caCertificates": "/etc/ca.pem"}


@mutation("TLS to a host outside without a certificate authority", "client-tls-verifies")
def _(o: Objects) -> None:
    entry = one(o, "ServiceEntry")
    spec = {"host": entry["spec"]["hosts"][0], "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}
    o.append(made("DestinationRule", NETWORKING, namespace(entry), spec))


@mutation("TLS to a host outside without verification", "client-tls-verifies")
def _(o: Objects) -> None:
    entry = one(o, "ServiceEntry")
    tls = {"mode": "SIMPLE", "caCertificates": "system", "insecureSkipVerify": True}
    spec = {"host": entry["spec"]["hosts"][0], "trafficPolicy": {"tls": tls}}
    o.append(made("DestinationRule", NETWORKING, namespace(entry), spec))


# Deny by default


@mutation("no deny by default", "deny-by-default")
def _(o: Objects) -> Objects:
    return without(o, deny_all(o))


@mutation("deny by default turned into allow all", "allow-names-callers")
def _(o: Objects) -> None:
    deny_all(o)["spec"] = {"rules": [{}]}


@mutation("deny by default for one namespace only", "deny-by-default")
def _(o: Objects) -> None:
    deny_all(o)["metadata"]["namespace"] = apps(o)


@mutation("deny by default as a dry run", "authorization-enforced")
def _(o: Objects) -> None:
    deny_all(o)["metadata"]["annotations"] = {"istio.io/dry-run": "true"}


@mutation("a DENY of the gateway as a dry run", "gateway-demands-token")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=True, where=_demands_token)
    item["metadata"]["annotations"] = {"istio.io/dry-run": "true"}


@mutation("services no policy selects, without deny by default", "workload-authorized")
def _(o: Objects) -> Objects:
    service = one(o, "Service", lambda s: namespace(s) == apps(o))
    own = [p for p in every(o, "AuthorizationPolicy") if matches(p) == service["spec"]["selector"]]
    return without(o, deny_all(o), *own)


# Tokens at the gateway


def _demands_token(p: Object) -> bool:
    return any("*" in s.get("notRequestPrincipals", ()) for s in sources(p))


@mutation("no DENY of requests without a token", "gateway-demands-token")
def _(o: Objects) -> Objects:
    return without(o, policy(o, "DENY", gateway=True, where=_demands_token))


@mutation("DENY of requests without a token leaves out a route", "gateway-demands-token")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=True, where=_demands_token)
    operations(item)[0].setdefault("notPaths", []).append("/api/v1/users/*")


@mutation("DENY of requests without a token leaves out a method", "gateway-demands-token")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=True, where=_demands_token)
    operations(item)[0]["notMethods"] = ["OPTIONS", "GET"]


@mutation("DENY of requests without a token leaves out a port", "gateway-demands-token")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=True, where=_demands_token)
    operations(item)[0]["ports"] = operations(item)[0]["ports"][:1]


@mutation("DENY of requests without a token turned into ALLOW", "allow-positive")
def _(o: Objects) -> None:
    policy(o, "DENY", gateway=True, where=_demands_token)["spec"]["action"] = "ALLOW"


@mutation("no DENY of tokens without a tenant at the gateway", "claims-checked-twice")
def _(o: Objects) -> Objects:
    item = policy(
        o,
        "DENY",
        gateway=True,
        where=lambda p: any(c.get("notValues") == ["*"] for c in conditions(p)),
    )
    return without(o, item)


@mutation("no DENY of tokens without a tenant at a service", "declared-claims-demanded")
def _(o: Objects) -> Objects:
    item = policy(
        o,
        "DENY",
        gateway=False,
        where=lambda p: any(c.get("notValues") == ["*"] for c in conditions(p)),
    )
    return without(o, item)


@mutation("no DENY of other roles at a service", "claims-checked-twice")
def _(o: Objects) -> Objects:
    item = policy(
        o,
        "DENY",
        gateway=False,
        where=lambda p: any(c.get("notValues", ["*"]) != ["*"] for c in conditions(p)),
    )
    return without(o, item)


@mutation("no DENY of other roles at the gateway", "claims-checked-twice")
def _(o: Objects) -> Objects:
    item = policy(
        o,
        "DENY",
        gateway=True,
        where=lambda p: any(c.get("notValues", ["*"]) != ["*"] for c in conditions(p)),
    )
    return without(o, item)


@mutation("one more role may administer, at the gateway only", "claims-checked-twice")
def _(o: Objects) -> None:
    item = policy(
        o,
        "DENY",
        gateway=True,
        where=lambda p: any(c.get("notValues", ["*"]) != ["*"] for c in conditions(p)),
    )
    conditions(item)[0]["notValues"].append("user")


@mutation("administration from every address", "admin-from-known-addresses")
def _(o: Objects) -> Objects:
    item = policy(
        o, "DENY", gateway=True, where=lambda p: any("notRemoteIpBlocks" in s for s in sources(p))
    )
    return without(o, item)


@mutation("entry for other clusters without identity", "mesh-entry-demands-identity")
def _(o: Objects) -> Objects:
    item = policy(
        o, "DENY", gateway=True, where=lambda p: any("notPrincipals" in s for s in sources(p))
    )
    return without(o, item)


@mutation("metrics and debug paths through the gateway", "gateway-hides-internals")
def _(o: Objects) -> Objects:
    item = policy(
        o,
        "DENY",
        gateway=True,
        where=lambda p: any("/metrics" in op.get("paths", ()) for op in operations(p)),
    )
    return without(o, item)


# ALLOW


@mutation("ALLOW everybody for the applications", "allow-names-callers")
def _(o: Objects) -> None:
    o.append(made("AuthorizationPolicy", SECURITY, apps(o), {"action": "ALLOW", "rules": [{}]}))


@mutation("ALLOW a path to everybody", "allow-names-callers")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_peer)
    del item["spec"]["rules"][0]["from"]


@mutation("ALLOW any certificate", "allow-names-accounts")
def _(o: Objects) -> None:
    sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]["principals"] = ["*"]


@mutation("ALLOW every account of a namespace", "allow-names-accounts")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_peer)
    sources(item)[0]["principals"] = [f"cluster.local/ns/{apps(o)}/sa/*"]


@mutation("ALLOW a whole namespace", "allow-names-accounts")
def _(o: Objects) -> None:
    source = sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]
    del source["principals"]
    source["namespaces"] = [apps(o)]


@mutation("ALLOW all but one caller", "allow-positive")
def _(o: Objects) -> None:
    source = sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]
    source["notPrincipals"] = source.pop("principals")[:1]


@mutation("ALLOW all but some paths", "allow-positive")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    operation = operations(item)[0]
    operation.pop("paths")
    operation["notPaths"] = ["/internal/*"]


@mutation("ALLOW tokens of any issuer", "allow-names-issuers")
def _(o: Objects) -> None:
    sources(policy(o, "ALLOW", gateway=True, where=by_token))[0]["requestPrincipals"] = ["*"]


@mutation("namespace-wide ALLOW for the gateway", "allow-not-undone")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    principals = sources(item)[0]["principals"]
    spec = {"action": "ALLOW", "rules": [{"from": [{"source": {"principals": principals}}]}]}
    o.append(made("AuthorizationPolicy", SECURITY, apps(o), spec))


@mutation("ALLOW without methods beside one with methods", "allow-not-undone")
def _(o: Objects) -> None:
    item = policy(
        o,
        "ALLOW",
        gateway=True,
        where=lambda p: by_token(p) and any("methods" in op for op in operations(p)),
    )
    operation = next(op for op in operations(item) if "methods" in op)
    wide = {key: value for key, value in operation.items() if key != "methods"}
    rule = {"from": item["spec"]["rules"][0]["from"], "to": [{"operation": wide}]}
    o.append(
        made(
            "AuthorizationPolicy",
            SECURITY,
            namespace(item),
            {"action": "ALLOW", "selector": item["spec"]["selector"], "rules": [rule]},
        )
    )


@mutation("ALLOW every path beside one by path", "allow-not-undone")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    rule = {"from": item["spec"]["rules"][0]["from"], "to": [{"operation": {"paths": ["/*"]}}]}
    item["spec"]["rules"].append(rule)


@mutation("ALLOW the gateway on a route without a token", "public-declared")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_token)
    for source in sources(item):
        source.pop("requestPrincipals", None)


@mutation("a public route that does not say so", "public-declared")
def _(o: Objects) -> None:
    item = policy(
        o,
        "ALLOW",
        gateway=False,
        where=lambda p: public(p) and not by_token(p),
    )
    del item["metadata"]["annotations"]


@mutation("a public route at the gateway that does not say so", "public-declared")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=True, where=public)
    del item["metadata"]["annotations"]


@mutation("a public route without a reason", "public-has-reason")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=True, where=public)
    del item["metadata"]["annotations"]["voicemesh.io/reason"]


@mutation("a header instead of an identity", "header-is-no-identity")
def _(o: Objects) -> None:
    item = policy(o, "ALLOW", gateway=False, where=by_peer)
    rule = item["spec"]["rules"][0]
    del rule["from"]
    rule["when"] = [{"key": "request.headers[x-user-role]", "values": ["admin"]}]


@mutation("a selector that selects nothing", "selector-selects")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=False)
    item["spec"]["selector"]["matchLabels"] = {"app": "no-such-service"}


@mutation("a service account that does not exist", "caller-exists")
def _(o: Objects) -> None:
    source = sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]
    source["principals"].append(f"cluster.local/ns/{apps(o)}/sa/no-such-account")


@mutation("a namespace that does not exist", "caller-exists")
def _(o: Objects) -> None:
    source = sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]
    source["principals"].append("cluster.local/ns/no-such-namespace/sa/caller")


@mutation("another trust domain", "caller-exists")
def _(o: Objects) -> None:
    source = sources(policy(o, "ALLOW", gateway=False, where=by_peer))[0]
    source["principals"].append(f"evil.example/ns/{apps(o)}/sa/caller")


@mutation("a method in small letters", "methods-known")
def _(o: Objects) -> None:
    item = policy(
        o, "DENY", gateway=True, where=lambda p: any("methods" in op for op in operations(p))
    )
    operation = next(op for op in operations(item) if "methods" in op)
    operation["methods"] = [m.lower() for m in operation["methods"]]


@mutation("a DENY for a port that no pod serves", "policy-port-exists")
def _(o: Objects) -> None:
    item = policy(o, "DENY", gateway=False, where=lambda p: bool(operations(p)))
    operations(item)[0]["ports"] = ["8888"]


# Tokens


def _authentication(o: Objects, *, gateway: bool) -> Object:
    selector = gateway_selector(o)
    return one(
        o,
        "RequestAuthentication",
        lambda r: bool(matches(r) and matches(r).items() <= selector.items()) == gateway,
    )


@mutation("no RequestAuthentication at the gateway", "claims-need-issuer")
def _(o: Objects) -> Objects:
    return without(o, _authentication(o, gateway=True))


@mutation("no RequestAuthentication at services", "claims-need-issuer")
def _(o: Objects) -> Objects:
    return without(o, _authentication(o, gateway=False))


@mutation("an issuer that policies name is no longer checked", "claims-need-issuer")
def _(o: Objects) -> None:
    _authentication(o, gateway=True)["spec"]["jwtRules"][0]["issuer"] = "https://other.example"


@mutation("tokens are checked and nobody demands one", "token-demanded")
def _(o: Objects) -> Objects:
    asking = [
        p
        for p in every(o, "AuthorizationPolicy")
        if by_token(p)
        or any("notRequestPrincipals" in s for s in sources(p))
        or any("request.auth" in c["key"] for c in conditions(p))
    ]
    return without(o, *asking)


@mutation("keys of an issuer over plain HTTP", "issuer-keys-safe")
def _(o: Objects) -> None:
    rule = _authentication(o, gateway=True)["spec"]["jwtRules"][0]
    rule["jwksUri"] = "http://identity.example/keys.json"


@mutation("keys of an issuer written down", "issuer-keys-safe")
def _(o: Objects) -> None:
    rule = _authentication(o, gateway=True)["spec"]["jwtRules"][0]
    rule["jwks"] = '{"keys": []}'


@mutation("tokens for any audience", "token-audience")
def _(o: Objects) -> None:
    del _authentication(o, gateway=True)["spec"]["jwtRules"][0]["audiences"]


@mutation("tokens in the address", "token-not-in-address")
def _(o: Objects) -> None:
    _authentication(o, gateway=True)["spec"]["jwtRules"][0]["fromParams"] = ["access_token"]


@mutation("an issuer whose tokens leave the tenant header alone", "claim-headers-guarded")
def _(o: Objects) -> None:
    rules = _authentication(o, gateway=True)["spec"]["jwtRules"]
    extra = {
        "issuer": "https://partner.example",
        "jwksUri": "https://partner.example/keys.json",
        "audiences": rules[0]["audiences"],
    }
    rules.append(extra)


@mutation("one claim no longer fills its header", "claim-headers-guarded")
def _(o: Objects) -> None:
    _authentication(o, gateway=False)["spec"]["jwtRules"][0]["outputClaimToHeaders"].pop()


@mutation("a public route that passes claim headers on", "claim-headers-guarded")
def _(o: Objects) -> None:
    open_paths = {
        path
        for p in every(o, "AuthorizationPolicy", public)
        if not matches(p).items() <= gateway_selector(o).items()
        for op in operations(p)
        for path in op.get("paths", ())
    }
    for item in every(o, "VirtualService"):
        for each in http(item):
            if open_paths & set(uris(each)) and each.get("headers"):
                del each["headers"]
                return


@mutation("the gateway keeps the token to itself", "token-forwarded")
def _(o: Objects) -> None:
    for rule in _authentication(o, gateway=True)["spec"]["jwtRules"]:
        rule.pop("forwardOriginalToken")


@mutation("deny list by the packet's sender", "client-address-real")
def _(o: Objects) -> None:
    item = policy(
        o, "DENY", gateway=True, where=lambda p: any("remoteIpBlocks" in s for s in sources(p))
    )
    for source in sources(item):
        source["ipBlocks"] = source.pop("remoteIpBlocks")
