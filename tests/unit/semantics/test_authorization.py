"""The evaluator against Istio's documented semantics, a row for each sentence."""

from __future__ import annotations

from typing import Any

import pytest

from semantics.mesh import Mesh
from semantics.objects import Workload
from semantics.request import Outcome, Request, Token
from tests.unit.semantics.mesh_objects import (
    APPS,
    ROOT,
    guard,
    item,
    operation,
    peer,
    policy,
    source,
    when,
)

ISSUER = "https://issuer.example"
JWT = item("RequestAuthentication", "jwt", {"jwtRules": [{"issuer": ISSUER}]})
A = peer("a")


def token(**claims: Any) -> Token:
    return Token({"iss": ISSUER, "sub": "user", **claims})


ALLOW_ALL = policy({})
ALLOW, DENY, CUSTOM = Outcome.ALLOW, Outcome.DENY, Outcome.CUSTOM

ROWS: dict[str, tuple[list[dict[str, Any]], Request, Outcome]] = {
    "no policy lets everything in": ([], Request(), ALLOW),
    "an empty spec denies": ([item("AuthorizationPolicy", "p", {})], Request(peer=A), DENY),
    "ALLOW without rules denies": ([policy()], Request(peer=A), DENY),
    "DENY without rules denies nothing": ([policy(action="DENY")], Request(), ALLOW),
    "an empty rule fits everything": ([ALLOW_ALL], Request(), ALLOW),
    "DENY with an empty rule denies all": ([policy({}, action="DENY")], Request(), DENY),
    "an ALLOW that does not fit denies": (
        [policy(operation(methods=["GET"]))],
        Request(method="POST"),
        DENY,
    ),
    "ALLOW policies are ORed": (
        [policy(operation(methods=["GET"])), policy(operation(methods=["POST"]), name="q")],
        Request(method="POST"),
        ALLOW,
    ),
    "rules of a policy are ORed": (
        [policy(operation(methods=["GET"]), operation(methods=["POST"]))],
        Request(method="POST"),
        ALLOW,
    ),
    "DENY comes before ALLOW": (
        [ALLOW_ALL, policy(operation(paths=["/admin*"]), action="DENY", name="q")],
        Request(path="/admin/x"),
        DENY,
    ),
    "DENY that does not fit leaves it to ALLOW": (
        [ALLOW_ALL, policy(operation(paths=["/admin*"]), action="DENY", name="q")],
        Request(path="/home"),
        ALLOW,
    ),
    "AUDIT decides nothing": ([policy({}, action="AUDIT")], Request(), ALLOW),
    "a dry run decides nothing": (
        [
            {
                **policy({}, action="DENY"),
                "metadata": {
                    "name": "p",
                    "namespace": APPS,
                    "annotations": {"istio.io/dry-run": "true"},
                },
            }
        ],
        Request(),
        ALLOW,
    ),
    "CUSTOM asks outside": (
        [policy({}, action="CUSTOM", provider={"name": "ext"})],
        Request(),
        CUSTOM,
    ),
    "CUSTOM that does not fit asks nobody": (
        [policy(operation(methods=["PUT"]), action="CUSTOM", provider={"name": "ext"})],
        Request(),
        ALLOW,
    ),
    "after CUSTOM a DENY still denies": (
        [
            policy({}, action="CUSTOM", provider={"name": "ext"}),
            policy({}, action="DENY", name="q"),
        ],
        Request(),
        DENY,
    ),
    "CUSTOM with an unknown provider denies": (
        [policy({}, action="CUSTOM", provider={"name": "typo"})],
        Request(),
        DENY,
    ),
    "CUSTOM is decided before tokens are read": (
        [
            JWT,
            policy(
                when("request.auth.claims[role]", ["admin"]),
                action="CUSTOM",
                provider={"name": "ext"},
            ),
        ],
        Request(token=token(role="admin")),
        ALLOW,
    ),
    # scope
    "a selector that does not fit leaves the workload alone": (
        [policy(action="ALLOW", app="db")],
        Request(),
        ALLOW,
    ),
    "a selector that fits": ([policy(app="web")], Request(), DENY),
    "another namespace's policy does not apply": ([policy(namespace="other")], Request(), ALLOW),
    "the root namespace's policy applies everywhere": ([policy(namespace=ROOT)], Request(), DENY),
    "a root policy with a selector applies to those pods everywhere": (
        [policy(namespace=ROOT, app="web")],
        Request(),
        DENY,
    ),
    "targetRefs leave sidecars alone": (
        [policy(targetRefs=[{"kind": "Gateway", "name": "web"}])],
        Request(),
        ALLOW,
    ),
    # from, to and when are ANDed, fields too, values ORed
    "from and to must both fit": (
        [policy({**source(principals=["cluster.local/ns/apps/sa/a"]), **operation(ports=["81"])})],
        Request(peer=A, port=80),
        DENY,
    ),
    "fields of a source are ANDed": (
        [policy(source(namespaces=["apps"], principals=["*/sa/b"]))],
        Request(peer=A),
        DENY,
    ),
    "sources of a rule are ORed": (
        [
            policy(
                {
                    "from": [
                        {"source": {"principals": ["*/sa/b"]}},
                        {"source": {"namespaces": ["apps"]}},
                    ]
                }
            )
        ],
        Request(peer=A),
        ALLOW,
    ),
    "values of a field are ORed": (
        [policy(operation(methods=["GET", "POST"]))],
        Request(method="POST"),
        ALLOW,
    ),
    "when entries are ANDed": (
        [
            policy(
                {
                    "when": [
                        {"key": "request.headers[x-a]", "values": ["1"]},
                        {"key": "request.headers[x-b]", "values": ["1"]},
                    ]
                }
            )
        ],
        Request(headers={"x-a": "1"}),
        DENY,
    ),
    # identity
    "a principal": (
        [policy(source(principals=["cluster.local/ns/apps/sa/a"]))],
        Request(peer=A),
        ALLOW,
    ),
    "a principal needs a certificate": (
        [policy(source(principals=["*"]))],
        Request(peer=None),
        DENY,
    ),
    "a principal by prefix": (
        [policy(source(principals=["cluster.local/ns/apps/*"]))],
        Request(peer=A),
        ALLOW,
    ),
    "a principal by suffix": ([policy(source(principals=["*/sa/a"]))], Request(peer=A), ALLOW),
    "notPrincipals in ALLOW lets callers without identity in": (
        [policy(source(notPrincipals=["*/sa/b"]))],
        Request(peer=None),
        ALLOW,
    ),
    "notPrincipals in DENY": (
        [policy(source(notPrincipals=["*/sa/a"]), action="DENY")],
        Request(peer=A),
        ALLOW,
    ),
    "a namespace": ([policy(source(namespaces=["apps"]))], Request(peer=A), ALLOW),
    "a namespace is matched whole": (
        [policy(source(namespaces=["app"]))],
        Request(peer=A),
        DENY,
    ),
    "a namespace with a wildcard": ([policy(source(namespaces=["ap*"]))], Request(peer=A), ALLOW),
    "a service account of the policy's namespace": (
        [policy(source(serviceAccounts=["a"]))],
        Request(peer=A),
        ALLOW,
    ),
    "a service account of another namespace": (
        [policy(source(serviceAccounts=["a"]))],
        Request(peer=peer("a", "other")),
        DENY,
    ),
    "a service account with its namespace": (
        [policy(source(serviceAccounts=["other/a"]))],
        Request(peer=peer("a", "other")),
        ALLOW,
    ),
    "cluster.local stands for the mesh's own trust domain": (
        [policy(source(principals=["cluster.local/ns/apps/sa/a"]))],
        Request(peer=peer("a", domain="td.example")),
        ALLOW,
    ),
    "an alias of the trust domain": (
        [policy(source(principals=["cluster.local/ns/apps/sa/a"]))],
        Request(peer=peer("a", domain="old.example")),
        ALLOW,
    ),
    "a foreign trust domain": (
        [policy(source(principals=["cluster.local/ns/apps/sa/a"]))],
        Request(peer=peer("a", domain="evil.example")),
        DENY,
    ),
    "trustDomains": (
        [policy(source(trustDomains=["td.*"]))],
        Request(peer=peer("a", domain="td.example")),
        ALLOW,
    ),
    # addresses
    "ipBlocks see the sender": (
        [policy(source(ipBlocks=["10.1.0.0/16"]))],
        Request(source_ip="10.1.2.3", remote_ip="192.0.2.1"),
        ALLOW,
    ),
    "remoteIpBlocks see the client": (
        [policy(source(remoteIpBlocks=["10.1.0.0/16"]))],
        Request(source_ip="10.1.2.3", remote_ip="192.0.2.1"),
        DENY,
    ),
    "a single address": (
        [policy(source(ipBlocks=["10.1.2.3"]))],
        Request(source_ip="10.1.2.3"),
        ALLOW,
    ),
    "notRemoteIpBlocks in DENY is an allow list": (
        [policy(source(notRemoteIpBlocks=["198.51.100.0/24"]), action="DENY")],
        Request(remote_ip="192.0.2.1"),
        DENY,
    ),
    # operations
    "hosts ignore case": (
        [policy(operation(hosts=["API.example"]))],
        Request(host="api.EXAMPLE"),
        ALLOW,
    ),
    "hosts see the port of the authority": (
        [policy(operation(hosts=["api.example"]))],
        Request(host="api.example:8443"),
        DENY,
    ),
    "a host by prefix": (
        [policy(operation(hosts=["api.example:*"]))],
        Request(host="api.example:8443"),
        ALLOW,
    ),
    "methods mind case": ([policy(operation(methods=["GET"]))], Request(method="get"), DENY),
    "a path exactly": ([policy(operation(paths=["/a"]))], Request(path="/a/"), DENY),
    "a path by prefix": ([policy(operation(paths=["/a*"]))], Request(path="/abc"), ALLOW),
    "a path by suffix": ([policy(operation(paths=["*/x"]))], Request(path="/a/b/x"), ALLOW),
    "the query does not count": ([policy(operation(paths=["/a"]))], Request(path="/a?b=/c"), ALLOW),
    "{*} is one segment": (
        [policy(operation(paths=["/users/{*}/mail"]))],
        Request(path="/users/7/mail"),
        ALLOW,
    ),
    "{*} is not two segments": (
        [policy(operation(paths=["/users/{*}/mail"]))],
        Request(path="/users/7/8/mail"),
        DENY,
    ),
    "{**} is any number of segments": (
        [policy(operation(paths=["/users/{**}"]))],
        Request(path="/users/7/8/mail"),
        ALLOW,
    ),
    "{**} is also none": (
        [policy(operation(paths=["/users/{**}"]))],
        Request(path="/users/"),
        ALLOW,
    ),
    "double slashes are merged first": (
        [policy(operation(paths=["/admin*"]), action="DENY")],
        Request(path="//admin"),
        DENY,
    ),
    "escaped slashes are decoded first": (
        [policy(operation(paths=["/admin/x"]), action="DENY")],
        Request(path="/admin%2Fx"),
        DENY,
    ),
    "dot segments are resolved first": (
        [policy(operation(paths=["/admin*"]), action="DENY")],
        Request(path="/public/../%61dmin"),
        DENY,
    ),
    "a port": ([policy(operation(ports=["8080"]))], Request(port=8080), ALLOW),
    "notPorts": ([policy(operation(notPorts=["8080"]))], Request(port=8080), DENY),
    "notMethods": ([policy(operation(notMethods=["GET"]))], Request(method="PUT"), ALLOW),
    # conditions
    "a header by value": (
        [policy(when("request.headers[X-A]", ["v*"]))],
        Request(headers={"x-a": "value"}),
        ALLOW,
    ),
    "a header that is absent never fits": (
        [policy(when("request.headers[x-a]", ["*"]))],
        Request(),
        DENY,
    ),
    "an empty header is present": (
        [policy(when("request.headers[x-a]", ["*"]))],
        Request(headers={"x-a": ""}),
        ALLOW,
    ),
    "notValues fit an absent header": (
        [policy(when("request.headers[x-a]", not_values=["1"]))],
        Request(),
        ALLOW,
    ),
    "*x* is a suffix and no substring": (
        [policy(when("request.headers[user-agent]", ["*curl*"]), action="DENY")],
        Request(headers={"user-agent": "curl/8"}),
        ALLOW,
    ),
    "destination.port": ([policy(when("destination.port", ["8080"]))], Request(port=8080), ALLOW),
    "destination.ip": (
        [policy(when("destination.ip", ["10.0.0.0/30"]))],
        Request(destination_ip="10.0.0.2"),
        ALLOW,
    ),
    "connection.sni": (
        [policy(when("connection.sni", ["*.example"]))],
        Request(sni="a.example"),
        ALLOW,
    ),
    "source.namespace": ([policy(when("source.namespace", ["apps"]))], Request(peer=A), ALLOW),
    "source.principal": ([policy(when("source.principal", ["*/sa/a"]))], Request(peer=A), ALLOW),
    "remote.ip": (
        [policy(when("remote.ip", ["192.0.2.0/24"]))],
        Request(remote_ip="192.0.2.1"),
        ALLOW,
    ),
    "filter metadata": (
        [policy(when("experimental.envoy.filters.f[k]", ["v"]))],
        Request(metadata={"envoy.filters.f": {"k": "v"}}),
        ALLOW,
    ),
    "a rule with an unknown key is left out": (
        [policy(when("request.unknown", ["x"]), action="DENY")],
        Request(),
        ALLOW,
    ),
    # tokens
    "no token passes RequestAuthentication": ([JWT], Request(), ALLOW),
    "a bad token is refused": ([JWT], Request(token=Token({"iss": ISSUER}, valid=False)), DENY),
    "an unlisted issuer is refused": ([JWT], Request(token=Token({"iss": "other"})), DENY),
    "another audience is refused": (
        [
            item(
                "RequestAuthentication",
                "jwt",
                {"jwtRules": [{"issuer": ISSUER, "audiences": ["web"]}]},
            )
        ],
        Request(token=token(aud=["mobile"])),
        DENY,
    ),
    "one of the audiences is enough": (
        [
            item(
                "RequestAuthentication",
                "jwt",
                {"jwtRules": [{"issuer": ISSUER, "audiences": ["web", "app"]}]},
            )
        ],
        Request(token=token(aud=["mobile", "app"])),
        ALLOW,
    ),
    "requestPrincipals": (
        [JWT, policy(source(requestPrincipals=[f"{ISSUER}/user"]))],
        Request(token=token()),
        ALLOW,
    ),
    "requestPrincipals by issuer": (
        [JWT, policy(source(requestPrincipals=[f"{ISSUER}/*"]))],
        Request(token=token()),
        ALLOW,
    ),
    "a token is required by notRequestPrincipals": (
        [JWT, policy(source(notRequestPrincipals=["*"]), action="DENY")],
        Request(),
        DENY,
    ),
    "a token without sub is no request principal": (
        [JWT, policy(source(notRequestPrincipals=["*"]), action="DENY")],
        Request(token=Token({"iss": ISSUER})),
        DENY,
    ),
    "without RequestAuthentication a token says nothing": (
        [policy(source(requestPrincipals=["*"]))],
        Request(token=token()),
        DENY,
    ),
    "a claim": (
        [JWT, policy(when("request.auth.claims[role]", ["admin"]))],
        Request(token=token(role="admin")),
        ALLOW,
    ),
    "a claim that is a list": (
        [JWT, policy(when("request.auth.claims[role]", ["admin"]))],
        Request(token=token(role=["user", "admin"])),
        ALLOW,
    ),
    "a nested claim": (
        [JWT, policy(when("request.auth.claims[realm][roles]", ["admin"]))],
        Request(token=token(realm={"roles": ["admin"]})),
        ALLOW,
    ),
    "a claim that is a number never fits": (
        [JWT, policy(when("request.auth.claims[level]", ["7"]))],
        Request(token=token(level=7)),
        DENY,
    ),
    "scope is a list parted by spaces": (
        [JWT, policy(when("request.auth.claims[scope]", ["write"]))],
        Request(token=token(scope="read write")),
        ALLOW,
    ),
    "audiences": (
        [JWT, policy(when("request.auth.audiences", ["web"]))],
        Request(token=token(aud="web")),
        ALLOW,
    ),
    "presenter": (
        [JWT, policy(when("request.auth.presenter", ["client"]))],
        Request(token=token(azp="client")),
        ALLOW,
    ),
    "a CORS preflight passes with a bad token": (
        [JWT],
        Request(
            method="OPTIONS",
            headers={"origin": "https://a", "access-control-request-method": "GET"},
            token=Token({}, valid=False),
        ),
        ALLOW,
    ),
    "a header filled from a claim can't be spoofed": (
        [
            item(
                "RequestAuthentication",
                "jwt",
                {
                    "jwtRules": [
                        {
                            "issuer": ISSUER,
                            "outputClaimToHeaders": [{"header": "x-tenant", "claim": "tenant"}],
                        }
                    ]
                },
            ),
            policy(when("request.headers[x-tenant]", ["acme"])),
        ],
        Request(headers={"x-tenant": "acme"}, token=token(tenant="other")),
        DENY,
    ),
    # TCP
    "an ALLOW rule with an HTTP field is nothing on TCP": (
        [policy({**operation(methods=["GET"]), **source(namespaces=["apps"])})],
        Request(peer=A, http=False),
        DENY,
    ),
    "a DENY rule loses the HTTP field on TCP": (
        [policy(operation(methods=["GET"], ports=["8080"]), action="DENY")],
        Request(http=False),
        DENY,
    ),
    # mTLS
    "without PeerAuthentication plaintext gets in": ([], Request(peer=None), ALLOW),
    "STRICT refuses plaintext": (
        [item("PeerAuthentication", "p", {"mtls": {"mode": "STRICT"}})],
        Request(peer=None),
        DENY,
    ),
    "the namespace overrides the mesh": (
        [
            item("PeerAuthentication", "m", {"mtls": {"mode": "STRICT"}}, ROOT),
            item("PeerAuthentication", "n", {"mtls": {"mode": "PERMISSIVE"}}),
        ],
        Request(peer=None),
        ALLOW,
    ),
    "UNSET inherits": (
        [
            item("PeerAuthentication", "m", {"mtls": {"mode": "STRICT"}}, ROOT),
            item("PeerAuthentication", "n", {"mtls": {"mode": "UNSET"}}),
        ],
        Request(peer=None),
        DENY,
    ),
    "a port overrides its workload": (
        [
            item(
                "PeerAuthentication",
                "w",
                {
                    "selector": {"matchLabels": {"app": "web"}},
                    "mtls": {"mode": "STRICT"},
                    "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}},
                },
            )
        ],
        Request(peer=None, port=8080),
        ALLOW,
    ),
    "DISABLE takes the callers' identities": (
        [
            item("PeerAuthentication", "n", {"mtls": {"mode": "DISABLE"}}),
            policy(source(principals=["*"])),
        ],
        Request(peer=A),
        DENY,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_documented_semantics(name: str) -> None:
    objects, request, expected = ROWS[name]
    mesh = Mesh(
        trust_domain="cluster.local" if "foreign" not in name else "td.example",
        trust_domain_aliases=("old.example", "td.example"),
        path_normalization="DECODE_AND_MERGE_SLASHES",
        authorizers=frozenset({"ext"}),
    )
    decision = guard(*objects, mesh=mesh).decide(request)
    assert decision.outcome is expected, decision


def test_the_decision_names_the_policy() -> None:
    deny = policy(operation(paths=["/a"]), operation(paths=["/b"]), action="DENY", name="no-b")
    assert guard(deny).decide(Request(path="/b")).by == "AuthorizationPolicy apps/no-b rule 1"


@pytest.mark.parametrize(
    ("token_", "status"),
    [
        (Token({"iss": ISSUER, "aud": "web"}, valid=False), 401),
        (Token({"iss": ISSUER, "aud": "other"}, timely=False), 401),
        (Token({"iss": ISSUER, "aud": "other"}, valid=False), 403),
        (Token({"iss": "https://unlisted"}), 401),
        (Token({"iss": ISSUER, "aud": "other"}), 403),
    ],
)
def test_status_of_refused_tokens(token_: Token, status: int) -> None:
    jwt = item(
        "RequestAuthentication", "jwt", {"jwtRules": [{"issuer": ISSUER, "audiences": ["web"]}]}
    )
    assert guard(jwt).decide(Request(token=token_)).status == status


def test_a_workload_without_proxy_is_open() -> None:
    bare = Workload(APPS, "web", {"app": "web"}, proxied=False)
    assert guard(policy(), workload=bare).decide(Request()).allowed
