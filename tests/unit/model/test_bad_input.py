"""What a user sees for each kind of bad input: exit 2, what and where it is, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cli.main
import render
from model import stack_file
from model.access import Catalogue
from model.catalogue import services
from model.service import GrpcService, Port, Route, Service, WebSocketRoute
from tests.unit.model.stack_files import Edit, config, drop, put, write

KEY = "Pulumi.dev.yaml: voicemesh:"
_SERVICES = ", ".join(service.name for service in services())
_SUITES = (
    "'ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384',"
    " 'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-AES128-GCM-SHA256',"
    " 'ECDHE-RSA-AES256-GCM-SHA384' or 'ECDHE-RSA-CHACHA20-POLY1305'"
)
_NO_HOST = (
    "is not a host name; write a full name in lower case, without port, scheme or wildcard, like"
    " api.example.com"
)
_IDENTITY = "traffic.identity-service"

SETTINGS: dict[str, tuple[Edit, str]] = {
    "unknown key": (
        put("colour", "red"),
        f"{KEY}colour: this key does not exist (allowed: authentication, authorization,"
        " controlPlane, domain, edge, gateway, monitoring, namespaces, rateLimits, services,"
        " telemetry, traffic, workloads, zones)",
    ),
    "unknown key below another": (
        put("gateway.tls.minVerison", "TLSV1_3"),
        f"{KEY}gateway.tls.minVerison: this key does not exist (allowed: cipherSuites,"
        " credentialName, maxVersion, minVersion)",
    ),
    "unknown key in a list": (
        put("authentication.issuers.0.jwks", "x"),
        f"{KEY}authentication.issuers.0.jwks: this key does not exist (allowed: audiences, issuer,"
        " jwksUri)",
    ),
    "missing key": (
        drop("namespaces.apps"),
        f"{KEY}namespaces.apps: this key is required and missing",
    ),
    "mapping for a text": (put("domain", {"a": 1}), f"{KEY}domain: {{'a': 1}} is not a text"),
    "null": (put("domain", None), f"{KEY}domain: nothing (null) is not a text"),
    "text for a mapping": (
        put("gateway", "big"),
        f"{KEY}gateway: 'big' is not a mapping of keys to values",
    ),
    "text for a list": (
        put("authorization.deniedAddresses", "203.0.113.7"),
        f"{KEY}authorization.deniedAddresses: '203.0.113.7' is not a list",
    ),
    "a drain of half seconds": (
        put("controlPlane.drainDuration", "1500ms"),
        f"{KEY}controlPlane.drainDuration: 1500ms is not a whole number of seconds, at least one",
    ),
    "a drain below a second": (
        put("controlPlane.drainDuration", "500ms"),
        f"{KEY}controlPlane.drainDuration: 500ms is not a whole number of seconds, at least one",
    ),
    "text for a number": (
        put("gateway.trustedProxies", "1"),
        f"{KEY}gateway.trustedProxies: '1' is not a whole number",
    ),
    "boolean for a number": (
        put("gateway.trustedProxies", True),
        f"{KEY}gateway.trustedProxies: true is not a whole number",
    ),
    "text for a boolean": (
        put("gateway.eastWest", "no"),
        f"{KEY}gateway.eastWest: 'no' is not true or false",
    ),
    "sampling above 100": (
        put("telemetry.sampling", {"ai": 150}),
        f"{KEY}telemetry.sampling.ai: 150 is above 100",
    ),
    "sampling below 0": (
        put("telemetry.sampling", {"websocket": -0.5}),
        f"{KEY}telemetry.sampling.websocket: -0.5 is below 0",
    ),
    "weights above 100": (
        put(f"{_IDENTITY}.weights", {"v1": 80, "canary": 30}),
        f"{KEY}{_IDENTITY}.weights: the weights sum to 110, they must sum to 100",
    ),
    "weights below 100": (
        put(f"{_IDENTITY}.weights", {"v1": 99}),
        f"{KEY}{_IDENTITY}.weights: the weights sum to 99, they must sum to 100",
    ),
    "no weights": (
        put(f"{_IDENTITY}.weights", {}),
        f"{KEY}{_IDENTITY}.weights: {{}}: the length is 0, at least 1 is needed",
    ),
    "tenant limit on a route without tenants": (
        put("rateLimits.routes", {"/health": {"requests": 1, "unit": "second"}}),
        f"{KEY}rateLimits.routes./health: /health is public: there is no tenant to count its"
        " requests by",
    ),
    "closed on failure without a limit": (
        put("rateLimits.closedOnFailure", ["/ready", "/api/v1/auth"]),
        f"{KEY}rateLimits.closedOnFailure./ready: /ready is public: there is no tenant to count"
        " its requests by",
    ),
    "unknown service in traffic": (
        put("traffic.billing", {"weights": {"v1": 100}}),
        f"{KEY}traffic.billing: 'billing' is not a service (services: {_SERVICES})",
    ),
    "unknown service in overrides": (
        put("services.billing", {"timeout": "5s"}),
        f"{KEY}services.billing: 'billing' is not a service (services: {_SERVICES})",
    ),
    "unknown subset in weights": (
        put(f"{_IDENTITY}.weights", {"v1": 80, "v2": 20}),
        f"{KEY}{_IDENTITY}.weights.v2: 'v2' is not a subset of identity-service (subsets: v1,"
        " canary)",
    ),
    "unknown subset in a cohort": (
        put(f"{_IDENTITY}.cohorts.0.subset", "beta"),
        f"{KEY}{_IDENTITY}.cohorts.0.subset: 'beta' is not a subset of identity-service (subsets:"
        " v1, canary)",
    ),
    "split of a service without subsets": (
        put("traffic.rag-engine", {"weights": {"v1": 100}}),
        f"{KEY}traffic.rag-engine: rag-engine has no subsets to split its traffic over",
    ),
    "issuer twice": (
        put("authentication.issuers.1.issuer", "https://identity.voiceassistant.com"),
        f"{KEY}authentication.issuers: issuer 'https://identity.voiceassistant.com' is listed"
        " twice; list each issuer once",
    ),
    "header that is HTTP's own": (
        put("authentication.tenant", {"header": "authorization", "claim": "tenant_id"}),
        f"{KEY}authentication.tenant.header: 'authorization' is a header of HTTP or of the proxies;"
        " take one of your own that starts with x- (not x-forwarded-, x-envoy-, x-request-id,"
        " x-b3-, x-istio-)",
    ),
    "CIDR with host bits": (
        put("authorization.deniedAddresses", ["198.51.100.0/24", "203.0.113.7/24"]),
        f"{KEY}authorization.deniedAddresses.1: '203.0.113.7/24' is not an address or CIDR block"
        " (203.0.113.7/24 has host bits set); write 203.0.113.7 or 203.0.113.0/24",
    ),
    "no address": (
        put("authorization.adminAddresses", ["office"]),
        f"{KEY}authorization.adminAddresses.0: 'office' is not an address or CIDR block ('office'"
        " does not appear to be an IPv4 or IPv6 network); write 203.0.113.7 or 203.0.113.0/24",
    ),
    "address list of everyone": (
        put("authorization.adminAddresses", ["0.0.0.0/0"]),
        f"{KEY}authorization.adminAddresses.0: '0.0.0.0/0' covers every address, so it is no list;"
        " leave the list empty",
    ),
    "host with a scheme": (
        put("domain", "https://voiceassistant.com"),
        f"{KEY}domain: 'https://voiceassistant.com' {_NO_HOST}",
    ),
    "host with a wildcard": (
        put("domain", "*.voiceassistant.com"),
        f"{KEY}domain: '*.voiceassistant.com' {_NO_HOST}",
    ),
    "duration without unit": (
        put("edge.streamIdle", "30"),
        f"{KEY}edge.streamIdle: '30' is not a duration; write it like 250ms, 30s, 5m or 1h",
    ),
    "duration as a number": (put("edge.streamIdle", 30), f"{KEY}edge.streamIdle: 30 is not a text"),
    "duration of nothing": (
        put("edge.streamIdle", "0s"),
        f"{KEY}edge.streamIdle: '0s' is too short; Istio's shortest duration is 1ms",
    ),
    "stream idle after its connection": (
        put("edge.streamIdle", "2h"),
        f"{KEY}edge: streamIdle 2h is longer than connectionIdle 8s",
    ),
    "cipher": (
        put("gateway.tls.cipherSuites", ["RC4-MD5"]),
        f"{KEY}gateway.tls.cipherSuites.0: 'RC4-MD5' is not allowed; use {_SUITES}",
    ),
    "TLS version": (
        put("gateway.tls.minVersion", "TLSV1_0"),
        f"{KEY}gateway.tls.minVersion: 'TLSV1_0' is not allowed; use 'TLSV1_2' or 'TLSV1_3'",
    ),
    "origin with a path": (
        put("edge.cors.allowedOrigins", ["https://app.example.com/login"]),
        f"{KEY}edge.cors.allowedOrigins.0: 'https://app.example.com/login' is not an origin; write"
        " scheme and host, like https://app.example.com",
    ),
    "override that can't be": (
        put("services.identity-service", {"timeout": "2s"}),
        f"{KEY}services.identity-service: timeout 2s leaves 4 tries less than 1s each",
    ),
    "time for streams of a service that has none": (
        put("services.identity-service", {"streamTimeout": "60s"}),
        f"{KEY}services.identity-service.streamTimeout: identity-service has neither WebSockets nor"
        " streaming routes",
    ),
    "namespaces that fall together": (
        put("namespaces.infra", "voiceassistant-dev"),
        f"{KEY}namespaces: apps, infra and mesh must differ, found voiceassistant-dev,"
        " voiceassistant-dev, istio-system",
    ),
    "a zone twice": (
        put("zones", ["eu/a", "eu/a"]),
        f"{KEY}zones: eu/a is listed twice; list each zone once",
    ),
    "a request above its limit": (
        put("gateway.size", {"cpu": "3"}),
        f"{KEY}gateway.size: cpuLimit 2000m is below cpu 3",
    ),
    "memory above its limit": (
        put("gateway.size", {"memory": "2Gi", "memoryLimit": "2047Mi"}),
        f"{KEY}gateway.size: memoryLimit 2047Mi is below memory 2Gi",
    ),
    "an empty audience": (
        put("authentication.issuers.0.audiences", [""]),
        f"{KEY}authentication.issuers.0.audiences.0: '': the length is 0, at least 1 is needed",
    ),
    "port 0": (
        put("rateLimits.redis", {"mode": "external", "address": "redis.example.com:0"}),
        f"{KEY}rateLimits.redis.address: 'redis.example.com:0' has no port from 1 to 65535; write"
        " HOST:PORT",
    ),
    "a port above all": (
        put("rateLimits.redis", {"mode": "external", "address": "redis.example.com:99999"}),
        f"{KEY}rateLimits.redis.address: 'redis.example.com:99999' has no port from 1 to 65535;"
        " write HOST:PORT",
    ),
    "an address without a host": (
        put("rateLimits.redis", {"mode": "external", "address": ".svc.cluster.local:6379"}),
        f"{KEY}rateLimits.redis.address: '.svc.cluster.local' {_NO_HOST}",
    ),
    "encrypted value": (
        put("domain", {"secure": "v1:hidden"}),
        f"{KEY}domain: the value is encrypted; no key of this project is secret, set it in clear",
    ),
}

FILES: dict[str, tuple[str | bytes, str]] = {
    "no YAML": (
        "config: [\n",
        "Pulumi.dev.yaml:2:1: while parsing a flow node: expected the node content, but found"
        " '<stream end>'",
    ),
    "no config": (
        "settings: {}\n",
        "Pulumi.dev.yaml: there is no mapping `config` with voicemesh:... keys in it",
    ),
    "empty": (
        "",
        "Pulumi.dev.yaml: there is no mapping `config` with voicemesh:... keys in it",
    ),
    "key without project": (
        "config:\n  domain: example.com\n",
        "Pulumi.dev.yaml: domain: write the key with its project, voicemesh:domain",
    ),
    "key twice": (
        "config:\n  voicemesh:domain: a.example\n  voicemesh:domain: b.example\n",
        "Pulumi.dev.yaml:3:3: the key 'voicemesh:domain' stands twice",
    ),
    "a control character": (
        b"config: \x07",
        "Pulumi.dev.yaml: unacceptable character #x0007: special characters are not allowed in"
        ' "<unicode string>", position 8',
    ),
    "an integer that is none": (
        "config: {voicemesh:domain: !!int foo}",
        "Pulumi.dev.yaml: a value can't be read: invalid literal for int() with base 10: 'foo'",
    ),
    "a boolean that is none": (
        "config: {voicemesh:domain: !!bool foo}",
        "Pulumi.dev.yaml: a value can't be read: 'foo'",
    ),
    "a date that is none": (
        "config: {voicemesh:domain: 2024-13-45}",
        "Pulumi.dev.yaml: a value can't be read: month must be in 1..12",
    ),
    "a thousand digits": (
        f"config: {{voicemesh:zones: {'9' * 5000}}}",
        "Pulumi.dev.yaml: a value can't be read: Exceeds the limit (4300 digits) for integer string"
        " conversion: value has 5000 digits",
    ),
    "a date as a key": (
        "config: {voicemesh:services: {2024-01-01: {timeout: 3s}}}",
        "Pulumi.dev.yaml: a value or a key is no plain data: keys must be str, int, float, bool or"
        " None, not datetime.date; keys are texts, and no value stands within itself",
    ),
    "a value within itself": (
        "config: {voicemesh:zones: &a [*a]}",
        "Pulumi.dev.yaml: a value or a key is no plain data: Circular reference detected; keys are"
        " texts, and no value stands within itself",
    ),
    "a namespace that nothing reads": (
        "config:\n  voicemsh:domain: example.com\n",
        "Pulumi.dev.yaml: voicemsh:domain: nothing here reads the configuration of 'voicemsh'"
        " (allowed: voicemesh, kubernetes, pulumi, random)",
    ),
    "not UTF-8": (b"config: \xff", "Pulumi.dev.yaml: not UTF-8: invalid start byte at byte 8"),
}


def test_settings_as_they_are_pass(tmp_path: Path, seen: Seen) -> None:
    write(tmp_path, config())
    assert seen("--stack", "dev") == (0, [])


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str, tmp_path: Path, seen: Seen) -> None:
    edit, message = SETTINGS[case]
    values = config()
    edit(values)
    write(tmp_path, values)
    assert seen("--stack", "dev") == (2, [f"error: {message}"])


def test_every_problem_is_told_at_once(tmp_path: Path, seen: Seen) -> None:
    values = config()
    put("domain", "UPPER")(values)
    put("gateway.trustedProxies", 99)(values)
    write(tmp_path, values)
    assert seen("--stack", "dev") == (
        2,
        [
            f"error: {KEY}domain: 'UPPER' {_NO_HOST}",
            f"error: {KEY}gateway.trustedProxies: 99 is above 10",
        ],
    )


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, tmp_path: Path, seen: Seen) -> None:
    content, message = FILES[case]
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert seen("--stack", "dev") == (2, [f"error: {message}"])


@pytest.mark.parametrize("stack", ["nowhere", "../dev", "", "dev.yaml", "Dev", "-dev", "d" * 41])
def test_a_missing_stack_file(stack: str, tmp_path: Path, seen: Seen) -> None:
    write(tmp_path, config())
    write(tmp_path, config("prod"), "prod")
    status, lines = seen("--stack", stack)
    assert status == 2
    assert len(lines) == 1
    assert lines[0].endswith(": there is no such stack file (stacks: dev, prod)")


def _service(name: str, **changes: Any) -> Service:
    fields: dict[str, Any] = {"ports": (Port(name="http", number=8080),), "timeout": "5s"}
    return Service(name=name, **{**fields, **changes})


CATALOGUES: dict[str, tuple[Callable[[], tuple[Service, ...]], str]] = {
    "a caller that does not exist": (
        lambda: (_service("billing", callers=("nobody",)),),
        "services: billing: caller 'nobody' is not a service (services: billing)",
    ),
    "a port that is not declared": (
        lambda: (_service("billing", routes=(Route(path="/api/v1/billing", port="htpp"),)),),
        "Service: route /api/v1/billing names port 'htpp', which is not declared (ports: http:8080)",
    ),
    "a WebSocket on a port that is not declared": (
        lambda: (_service("billing", websockets=(WebSocketRoute(path="/ws/b", port="ws"),)),),
        "Service: websocket /ws/b names port 'ws', which is not declared (ports: http:8080)",
    ),
    "gRPC on a port that speaks HTTP/1.1": (
        lambda: (_service("billing", grpc=(GrpcService(name="b.v1.B", port="http"),)),),
        "Service: grpc b.v1.B: port 'http' speaks HTTP/1.1; gRPC needs http2 or grpc",
    ),
    "two services claim one host and path": (
        lambda: (
            _service("billing", routes=(Route(path="/api/v1/bills"),)),
            _service("invoices", routes=(Route(path="/api/v1/bills"),)),
        ),
        "services: billing claims /api/v1/bills and invoices claims /api/v1/bills on the API host;"
        " one path belongs to one route",
    ),
    "one service claims what lies below another's path": (
        lambda: (
            _service("billing", routes=(Route(path="/api/v1/bills"),)),
            _service("invoices", routes=(Route(path="/api/v1/bills/old"),)),
        ),
        "services: billing claims /api/v1/bills and invoices claims /api/v1/bills/old on the API"
        " host; one path belongs to one route",
    ),
    "a route made public without saying so": (
        lambda: (_service("billing", routes=(Route(path="/bills", access="public"),)),),
        "Route: route /bills is public without saying so: give public_reason, or leave access at"
        " 'token'",
    ),
    "time for the streams of a route that has none": (
        lambda: (_service("billing", routes=(Route(path="/bills", stream_timeout="60s"),)),),
        "Route: route /bills has a stream_timeout but is not streaming",
    ),
    "a service twice": (
        lambda: (_service("billing"), _service("billing")),
        "service 'billing' is declared twice",
    ),
    "a bad duration": (
        lambda: (_service("billing", timeout="soon"),),
        "Service.timeout: 'soon' is not a duration; write it like 250ms, 30s, 5m or 1h",
    ),
    "a port out of range": (
        lambda: (_service("billing", ports=(Port(name="http", number=70_000),)),),
        "Port.number: 70000 is above 65535",
    ),
    "a host to call that is no host": (
        lambda: (_service("billing", egress=("*",)),),
        f"Service.egress.0: '*' {_NO_HOST}",
    ),
}


@pytest.mark.parametrize("case", CATALOGUES)
def test_catalogue(case: str, tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    declared, message = CATALOGUES[case]
    write(tmp_path, config())
    monkeypatch.setattr(render, "declared_catalogue", partial(Catalogue.declare, declared))
    status, lines = seen("--stack", "dev")
    place, _, problem = lines[0].removeprefix("error: ").partition(": ")
    file, _, line = place.partition(":")
    assert (status, problem.removeprefix("services: "), len(lines)) == (
        2,
        message.removeprefix("services: "),
        1,
    )
    assert file == "model/test_bad_input.py"
    assert line == "" or line.isdigit()


Seen = Callable[..., tuple[int, list[str]]]
"""Runs `voicemesh render` with these options: exit code, and the lines on stderr."""


@pytest.fixture
def seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Seen:
    monkeypatch.setattr(stack_file, "load", partial(stack_file.load, root=tmp_path))

    def run(*options: str) -> tuple[int, list[str]]:
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["voicemesh", "render", "--out", str(out), *options])
        with pytest.raises(SystemExit) as ended:
            cli.main.main()
        stdout, stderr = capfd.readouterr()
        status = ended.value.code or 0
        assert isinstance(status, int)
        if status:
            assert stdout == ""
            assert not out.exists(), "nothing is written for input that is wrong"
        return status, stderr.splitlines()

    return run


def test_brackets_without_end(tmp_path: Path, seen: Seen) -> None:
    brackets = "[" * 3000 + "]" * 3000
    (tmp_path / "Pulumi.dev.yaml").write_text(f"config: {{voicemesh:zones: {brackets}}}")
    code, said = seen("--stack", "dev")
    assert code == 2
    assert [
        line.startswith("error: Pulumi.dev.yaml: a value can't be read: ") for line in said
    ] == [True]
