"""Policies as an evaluator of Istio's semantics reads them: exactly what the catalogue says."""

from __future__ import annotations

import functools
import itertools

import pytest

import mesh
from model import stack_file
from model.catalogue import catalogue
from semantics.authorization import Guard
from semantics.objects import MeshObjects, Workload
from semantics.request import Request, Token, principal_of

CATALOGUE = catalogue()
NAMESPACE = "voiceassistant-prod"
GATEWAY = principal_of("istio-system", "istio-ingressgateway")
ISSUER = "https://identity.voiceassistant.com"
ADMIN_ADDRESS, DENIED_ADDRESS = "198.51.100.7", "203.0.113.7"


@functools.cache
def objects() -> MeshObjects:
    settings = stack_file.load("prod", CATALOGUE)
    return MeshObjects(
        declared
        for part in mesh.parts("prod", settings, CATALOGUE)
        for declared in part.objects()
        if isinstance(declared, dict)
    )


@functools.cache
def guard(name: str) -> Guard:
    if name == "gateway":
        labels, namespace = {"istio": "ingressgateway"}, "istio-system"
    else:
        labels, namespace = {"app": name, "version": "v1"}, NAMESPACE
    return Guard(
        Workload(namespace=namespace, name=name, labels=labels, gateway=name == "gateway"),
        objects(),
    )


def token(**claims: object) -> Token:
    base = {
        "iss": ISSUER,
        "sub": "u1",
        "aud": "voiceassistant-api",
        "tenant_id": "t1",
        "role": "user",
    }
    return Token({key: value for key, value in {**base, **claims}.items() if value is not None})


def at_gateway(
    path: str,
    method: str = "GET",
    *,
    bearer: Token | None = None,
    host: str = "api.voiceassistant.com",
    address: str = "192.0.2.1",
    headers: dict[str, str] | None = None,
    port: int = 443,
    peer: str | None = None,
) -> int:
    request = Request(
        peer=peer,
        remote_ip=address,
        port=port,
        host=host,
        method=method,
        path=path,
        token=bearer,
        headers=headers or {},
    )
    return guard("gateway").decide(request).status


@pytest.mark.parametrize(("caller", "callee"), list(itertools.permutations(CATALOGUE.names, 2)))
def test_access_matrix(caller: str, callee: str) -> None:
    service = CATALOGUE.service(callee)
    for port in service.ports:
        request = Request(
            peer=principal_of(NAMESPACE, caller),
            port=port.number,
            method="POST",
            path="/anything",
            token=token() if service.tenant_isolated else None,
        )
        allowed = CATALOGUE.may_call(caller, callee) and not port.metrics
        assert guard(callee).decide(request).allowed is allowed


@pytest.mark.parametrize("callee", CATALOGUE.names)
@pytest.mark.parametrize(
    "peer",
    [
        None,
        principal_of("default", "identity-service"),
        principal_of(NAMESPACE, "identity-service", "other.domain"),
        principal_of(NAMESPACE, "default"),
    ],
)
def test_strangers_are_refused(callee: str, peer: str | None) -> None:
    port = CATALOGUE.service(callee).port("http").number
    request = Request(peer=peer, port=port, token=token())
    assert not guard(callee).decide(request).allowed


@pytest.mark.parametrize("callee", CATALOGUE.names)
def test_the_gateway_reaches_only_routes(callee: str) -> None:
    service = CATALOGUE.service(callee)
    port = service.port("http").number
    for other in CATALOGUE.exposures:
        methods = other.route.methods or ("GET", "POST")
        request = Request(
            peer=GATEWAY,
            port=port,
            method=methods[0],
            path=other.route.path,
            token=token(role="super-admin"),
        )
        assert guard(callee).decide(request).allowed is (other.service.name == callee)


ROUTES = [
    (exposure.service.name, exposure.route, method)
    for exposure in CATALOGUE.exposures
    for method in ("GET", "POST", "PUT", "DELETE")
]


@pytest.mark.parametrize(("service", "route", "method"), ROUTES)
def test_gateway_routes(service: str, route: object, method: str) -> None:
    exposure = next(e for e in CATALOGUE.exposures if e.route == route)
    served = not exposure.route.methods or method in exposure.route.methods
    public = exposure.route.access == "public"
    needs = next(
        (
            rule.roles
            for rule in exposure.route.restricted
            if not rule.methods or method in rule.methods
        ),
        None,
    )
    path = exposure.route.path
    assert at_gateway(path, method) == (200 if served and public else 403)
    assert at_gateway(path, method, bearer=token()) == (200 if served and not needs else 403)
    admin = token(role="super-admin")
    assert at_gateway(path, method, bearer=admin, address=ADMIN_ADDRESS) == (200 if served else 403)
    assert at_gateway(path, method, bearer=admin) == (200 if served and not needs else 403)
    assert at_gateway(path, method, bearer=admin, address=DENIED_ADDRESS) == 403


@pytest.mark.parametrize(
    ("bearer", "status"),
    [
        (token(), 200),
        (token(iss="https://evil.example"), 401),
        (token(aud="someone-else"), 403),
        (token(sub=None), 403),
        (token(tenant_id=None), 403),
        (token(tenant_id=""), 403),
        (None, 403),
        (Token(token().claims, valid=False), 401),
    ],
)
def test_tokens(bearer: Token | None, status: int) -> None:
    assert at_gateway("/api/v1/users", bearer=bearer) == status


PREFLIGHT = {"origin": "https://app.voiceassistant.com", "access-control-request-method": "PUT"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/users", PREFLIGHT, 200),
        ("/api/v1/users", {}, 403),
        ("/api/v1/users", {"origin": "https://app.voiceassistant.com"}, 403),
        ("/nowhere", PREFLIGHT, 403),
    ],
)
def test_preflights_pass_and_nothing_else_with_options(
    path: str, headers: dict[str, str], status: int
) -> None:
    assert at_gateway(path, "OPTIONS", headers=headers) == status


@pytest.mark.parametrize("path", ["/metrics", "/metrics/x", "/debug/pprof", "/nowhere", "/"])
def test_paths_outside_the_catalogue(path: str) -> None:
    assert at_gateway(path, bearer=token(role="super-admin"), address=ADMIN_ADDRESS) == 403


@pytest.mark.parametrize(
    ("host", "path", "method", "status"),
    [
        ("ws.voiceassistant.com", "/ws/voice", "GET", 200),
        ("ws.voiceassistant.com", "/api/v1/users", "GET", 403),
        ("api.voiceassistant.com", "/ws/voice", "GET", 403),
        ("grpc.voiceassistant.com", "/identity.v1.Identity/Get", "POST", 200),
        ("grpc.voiceassistant.com", "/identity.v1.Identity/Get", "GET", 403),
        ("grpc.voiceassistant.com", "/other.v1.Service/Get", "POST", 403),
        ("api.voiceassistant.com:443", "/api/v1/users", "GET", 200),
        ("other.example", "/api/v1/users", "GET", 403),
    ],
)
def test_hosts(host: str, path: str, method: str, status: int) -> None:
    assert at_gateway(path, method, host=host, bearer=token()) == status
    if status == 200:
        assert at_gateway(path, method, host=host) == 403


def test_plain_http_only_reaches_the_redirect() -> None:
    assert at_gateway("/anything", port=80) == 200
    assert at_gateway("/anything", port=80, address=DENIED_ADDRESS) == 403


def test_the_east_west_entry_asks_for_a_mesh_identity() -> None:
    caller = principal_of("default", "someone")
    assert at_gateway("/api/v1/users", port=15443, bearer=token(), peer=caller) == 200
    assert at_gateway("/api/v1/users", port=15443, peer=caller) == 403
    assert at_gateway("/api/v1/users", port=15443, bearer=token()) == 403


PADDED = (" t1", "t1 ", "\tt1", "t1\t", " ", "\t")


@pytest.mark.parametrize("tenant", PADDED)
def test_a_tenant_that_a_header_would_change_is_none(tenant: str) -> None:
    api, ws = "api.voiceassistant.com", "ws.voiceassistant.com"
    for host, path in ((api, "/api/v1/users"), (ws, "/ws/conversation")):
        assert at_gateway(path, bearer=token(), host=host) == 200
        assert at_gateway(path, bearer=token(tenant_id=tenant), host=host) == 403
    assert at_gateway("/health", bearer=token(tenant_id=tenant)) == 200


TENANT_ISOLATED = [service.name for service in CATALOGUE.services if service.tenant_isolated]


@pytest.mark.parametrize("name", TENANT_ISOLATED)
def test_tenant_isolated_services_refuse_requests_without_a_tenant(name: str) -> None:
    service = CATALOGUE.service(name)
    caller = CATALOGUE.callers(service)[0]

    def ask(bearer: Token | None) -> bool:
        port = service.port("http").number
        peer = principal_of(NAMESPACE, caller)
        request = Request(peer=peer, port=port, token=bearer, headers={"x-tenant-id": "t1"})
        return guard(name).decide(request).allowed

    assert ask(token())
    assert not ask(None)
    assert not ask(token(tenant_id=None))
    assert not ask(token(tenant_id=""))
    for padded in PADDED:
        assert not ask(token(tenant_id=padded))
