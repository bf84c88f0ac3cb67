"""Random policies and requests for one workload, from a seed.

Values come from small pools that overlap (prefixes of each other, a claim that another request
lacks), so that requests do hit policies. Used by the property tests here and by the lab's test of
agreement with Envoy, which sends the same requests to a real proxy.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semantics.request import Request, Token, principal_of

Object = dict[str, Any]

NAMESPACE = "apps"
ROOT_NAMESPACE = "istio-system"
ISSUERS = ("https://one.example", "https://two.example")
AUDIENCE = "web"
PORTS = (18080, 19090)
TCP_PORT = 17070
PEERS = (
    None,
    principal_of("apps", "caller"),
    principal_of("apps", "caller-two"),
    principal_of("apps-two", "caller"),
    principal_of("istio-system", "gateway"),
)
SOURCE_IPS = ("127.1.2.3", "127.1.9.9", "127.2.0.1")
"""Loopback, so that a real client can send from them."""
REMOTE_IPS = ("192.0.2.1", "192.0.2.200", "198.51.100.7")
HOSTS = ("api.example", "API.example", "ws.example", "api.example:8443")
METHODS = ("GET", "POST", "DELETE", "OPTIONS")
PATHS = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/admin/users",
    "/admin",
    "//admin",
    "/admin%2Fusers",
    "/x/../admin",
    "/%61dmin",
    "/users/7/mail",
    "/users/7/8/mail",
    "/users/",
    "/a?q=/admin",
    "/a/b.json",
)
PATH_PARTS = (
    *("/", "/", "/", "//", "/./", "/../", "\\", "%2F", "%2f", "%5C"),
    *("a", "ab", "admin", "users", "7", "mail", "b.json", "A"),
    *(".", "..", "%2e", "%2E%2e", "%61", "%41", "%25", "%20", ";v=1", "~", "=", "?q=/admin"),
)
"""Pieces of paths that someone tries who wants around a rule."""
HEADERS = ("x-env", "x-tenant")
HEADER_VALUES = ("prod", "production", "test", "")
ROLES = ("admin", "user", "super-admin")

_PRINCIPALS = (
    "*",
    "cluster.local/ns/apps/sa/caller",
    "cluster.local/ns/apps/sa/caller-two",
    "cluster.local/ns/apps/*",
    "*/sa/caller",
    "*/sa/gateway",
    "*/ns/apps/sa/caller",
)
_NAMESPACES = ("apps", "apps-two", "apps*", "*-system", "istio-system")
_ACCOUNTS = ("caller", "apps-two/caller", "istio-system/gateway")
_IP_BLOCKS = ("127.1.0.0/16", "127.1.2.3", "127.2.0.0/24", "0.0.0.0/0")
_REMOTE_BLOCKS = ("192.0.2.0/24", "192.0.2.128/25", "198.51.100.7", "10.0.0.0/8")
_REQUEST_PRINCIPALS = (
    "*",
    f"{ISSUERS[0]}/*",
    f"{ISSUERS[0]}/alice",
    f"{ISSUERS[1]}/*",
    "*/alice",
    "*alice",
)
_HOST_VALUES = ("api.example", "*.example", "api.*", "ws.example", "*", "api.example:*")
_METHOD_VALUES = ("GET", "POST", "DELETE", "OPTIONS", "P*", "*ET", "*")
_PATH_VALUES = (
    "/a",
    "/a*",
    "/a/*",
    "/admin*",
    "/admin/users",
    "*/mail",
    "*.json",
    "/users/{*}/mail",
    "/users/{**}",
    "/{*}/b",
    "*",
)
_PORT_VALUES = tuple(str(port) for port in (*PORTS, TCP_PORT))
_HEADER_MATCHES = ("prod", "prod*", "*uction", "*", "test")
_ROLE_MATCHES = ("admin", "*admin", "user", "*", "super*")


@dataclass(frozen=True)
class Case:
    """A set of objects and the requests to put to its one workload."""

    seed: int
    objects: tuple[Object, ...]
    requests: tuple[Request, ...]


def generate(seed: int, *, requests: int = 20, app: str = "web", jwks: str = "") -> Case:
    """The case of a seed, for a workload whose pods carry the label `app`.

    Args:
        seed: the same seed gives the same case.
        requests: how many requests there are.
        app: every policy selects it (or, rarely, another one on purpose).
        jwks: the issuers' public keys, where real tokens are to be checked with them.
    """
    rng = random.Random(seed)
    objects = []
    if rng.random() < 0.7:
        objects.append(_request_authentication(rng, app, jwks))
    if rng.random() < 0.4:
        objects.append(_peer_authentication(rng, app))
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    objects += [_policy(rng, index, app) for index in range(count)]
    return Case(seed, tuple(objects), tuple(_request(rng) for _ in range(requests)))


def _object(kind: str, name: str, namespace: str, spec: Object) -> Object:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _peer_authentication(rng: random.Random, app: str) -> Object:
    modes = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
    spec: Object = {
        "selector": {"matchLabels": {"app": app}},
        "mtls": {"mode": rng.choice(modes)},
    }
    if rng.random() < 0.5:
        spec["portLevelMtls"] = {str(PORTS[1]): {"mode": rng.choice(modes)}}
    return _object("PeerAuthentication", app, NAMESPACE, spec)


def _request_authentication(rng: random.Random, app: str, jwks: str) -> Object:
    rules: list[Object] = []
    for issuer in rng.sample(ISSUERS, rng.choice((1, 2))):
        rule: Object = {"issuer": issuer}
        if jwks:
            rule["jwks"] = jwks
        if rng.random() < 0.4:
            rule["audiences"] = [AUDIENCE]
        if rng.random() < 0.5:
            rule["outputClaimToHeaders"] = [{"header": "x-tenant", "claim": "tenant"}]
        if rng.random() < 0.5:
            rule["forwardOriginalToken"] = True
        rules.append(rule)
    spec = {"selector": {"matchLabels": {"app": app}}, "jwtRules": rules}
    return _object("RequestAuthentication", app, NAMESPACE, spec)


def _policy(rng: random.Random, index: int, app: str) -> Object:
    spec: Object = {}
    action = rng.choice(("ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))
    if action != "ALLOW" or rng.random() < 0.5:
        spec["action"] = action
    spec["selector"] = {"matchLabels": {"app": app if rng.random() < 0.95 else "another"}}
    # Istio refuses a DENY or AUDIT without rules: it would never be triggered.
    least = 0 if action == "ALLOW" else 1
    rules = [_rule(rng) for _ in range(rng.choice((least, 1, 1, 1, 2, 3)))]
    if rules:
        spec["rules"] = rules
    return _object("AuthorizationPolicy", f"{app}-{index}", NAMESPACE, spec)


def _rule(rng: random.Random) -> Object:
    if rng.random() < 0.07:
        return {}
    rule: Object = {}
    if rng.random() < 0.6:
        rule["from"] = [{"source": _source(rng)} for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.6:
        rule["to"] = [{"operation": _operation(rng)} for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.4 or not rule:
        rule["when"] = [_when(rng) for _ in range(rng.choice((1, 1, 2)))]
    return rule


def _field(rng: random.Random, name: str, pool: Sequence[str], *, most: int = 3) -> Object:
    values = rng.sample(pool, rng.randint(1, min(most, len(pool))))
    if rng.random() < 0.25:
        name = "not" + name[0].upper() + name[1:]
    return {name: values}


def _source(rng: random.Random) -> Object:
    fields = (
        ("principals", _PRINCIPALS),
        ("namespaces", _NAMESPACES),
        ("requestPrincipals", _REQUEST_PRINCIPALS),
        ("ipBlocks", _IP_BLOCKS),
        ("remoteIpBlocks", _REMOTE_BLOCKS),
    )
    if rng.random() < 0.15:
        # Istio refuses serviceAccounts beside principals or namespaces.
        return _field(rng, "serviceAccounts", _ACCOUNTS)
    source: Object = {}
    for name, pool in rng.sample(fields, rng.choice((1, 1, 2))):
        source |= _field(rng, name, pool)
    return source


def _operation(rng: random.Random) -> Object:
    fields = (
        ("hosts", _HOST_VALUES),
        ("methods", _METHOD_VALUES),
        ("paths", _PATH_VALUES),
        ("ports", _PORT_VALUES),
    )
    operation: Object = {}
    for name, pool in rng.sample(fields, rng.choice((1, 1, 2, 3))):
        operation |= _field(rng, name, pool)
    return operation


def _when(rng: random.Random) -> Object:
    key, pool = rng.choice(
        (
            ("request.headers[x-env]", _HEADER_MATCHES),
            ("request.headers[x-tenant]", _HEADER_MATCHES),
            ("request.auth.claims[role]", _ROLE_MATCHES),
            ("request.auth.claims[realm][roles]", _ROLE_MATCHES),
            ("request.auth.claims[scope]", ("read", "write*")),
            ("request.auth.audiences", (AUDIENCE, "mobile")),
            ("request.auth.principal", _REQUEST_PRINCIPALS),
            ("source.namespace", _NAMESPACES),
            ("source.principal", _PRINCIPALS),
            ("source.ip", _IP_BLOCKS),
            ("remote.ip", _REMOTE_BLOCKS),
            ("destination.port", _PORT_VALUES),
        )
    )
    values = rng.sample(pool, rng.randint(1, min(2, len(pool))))
    return {"key": key, ("notValues" if rng.random() < 0.3 else "values"): values}


def _request(rng: random.Random) -> Request:
    headers = {name: rng.choice(HEADER_VALUES) for name in HEADERS if rng.random() < 0.5}
    return Request(
        peer=rng.choice(PEERS),
        source_ip=rng.choice(SOURCE_IPS),
        remote_ip=rng.choice(REMOTE_IPS),
        destination_ip="10.0.0.2",
        port=rng.choice(PORTS),
        host=rng.choice(HOSTS),
        method=rng.choice(METHODS),
        path=rng.choice(PATHS) if rng.random() < 0.6 else _odd_path(rng),
        headers=headers,
        token=_token(rng) if rng.random() < 0.6 else None,
    )


def _odd_path(rng: random.Random) -> str:
    return "/" + "".join(rng.choice(PATH_PARTS) for _ in range(rng.randint(1, 6)))


def _token(rng: random.Random) -> Token:
    claims: dict[str, Any] = {"iss": rng.choice((*ISSUERS, *ISSUERS, "https://unlisted.example"))}
    if rng.random() < 0.85:
        claims["sub"] = rng.choice(("alice", "bob"))
    if rng.random() < 0.7:
        claims["aud"] = rng.choice((AUDIENCE, [AUDIENCE, "mobile"], "mobile"))
    if rng.random() < 0.6:
        claims["role"] = rng.choice((*ROLES, list(ROLES[:2]), 7))
    if rng.random() < 0.4:
        claims["realm"] = {"roles": rng.choice((list(ROLES), ["user"], "admin"))}
    if rng.random() < 0.4:
        claims["scope"] = rng.choice(("read write", "write-all", "read"))
    if rng.random() < 0.5:
        claims["tenant"] = rng.choice(("prod", "test", 5))
    return Token(claims, valid=rng.random() < 0.85)
