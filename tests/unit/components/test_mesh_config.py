"""meshConfig: what holds for the whole mesh, on every stack."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from components.mesh_config import (
    ACCESS_LOG,
    AUDIT_LOG,
    METRICS,
    TRACING,
    MeshConfig,
    access_log_fields,
    audit_log_fields,
    mesh_config,
)
from model import stack_file
from model.catalogue import catalogue
from model.service import ClaimHeader
from model.settings import Settings
from model.stack_file import ROOT

CATALOGUE = catalogue()
STACKS = ("dev", "staging", "prod")


def settings(stack: str) -> Settings:
    return stack_file.load(stack, CATALOGUE)


@pytest.fixture(params=STACKS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return mesh_config(settings(request.param))


def test_closed_by_default(config: dict[str, Any]) -> None:
    assert config["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    assert config["pathNormalization"] == {"normalization": "DECODE_AND_MERGE_SLASHES"}
    assert config["enableAutoMtls"] is True
    assert config["ingressControllerMode"] == "OFF"
    assert config["defaultConfig"]["holdApplicationUntilProxyStarts"] is True


def test_default_providers_exist_and_each_provider_has_one_kind(config: dict[str, Any]) -> None:
    kinds = {p["name"]: set(p) - {"name"} for p in config["extensionProviders"]}
    assert kinds == {
        ACCESS_LOG: {"envoyFileAccessLog"},
        AUDIT_LOG: {"envoyFileAccessLog"},
        TRACING: {"opentelemetry"},
        METRICS: {"prometheus"},
    }
    for names in config["defaultProviders"].values():
        assert set(names) <= set(kinds)


@pytest.mark.parametrize("stack", STACKS)
def test_only_the_stacks_namespaces_are_discovered(stack: str) -> None:
    names = settings(stack).namespaces
    (selector,) = mesh_config(settings(stack))["discoverySelectors"]
    (requirement,) = selector["matchExpressions"]
    assert requirement["key"] == "kubernetes.io/metadata.name"
    assert requirement["operator"] == "In"
    assert set(requirement["values"]) == {names.apps, names.infra, names.mesh}


def test_the_drain_is_the_settings() -> None:
    prod = settings("prod")
    assert mesh_config(prod)["defaultConfig"]["drainDuration"] == "45s"
    longer = prod.control_plane.model_copy(update={"drain_duration": "10m"})
    config = mesh_config(prod.model_copy(update={"control_plane": longer}))
    assert config["defaultConfig"]["drainDuration"] == "600s"


def test_trusted_proxies_are_the_settings() -> None:
    prod = settings("prod")
    gateway = prod.gateway.model_copy(update={"trusted_proxies": 3})
    config = mesh_config(prod.model_copy(update={"gateway": gateway}))
    assert config["defaultConfig"]["gatewayTopology"] == {"numTrustedProxies": 3}


@pytest.mark.parametrize("fields", [access_log_fields, audit_log_fields])
def test_no_credential_in_any_log(fields: Any) -> None:
    values = fields(settings("prod").authentication, "c").values()
    for value in values:
        assert not re.search(r"authorization|cookie|token\)|set-cookie", value, re.IGNORECASE)
        # A whole path has its query, and queries hold the tokens of WebSocket clients.
        assert not re.search(r"%(REQ|PATH)\([^)]*(path|WQ)", value), value


@pytest.mark.parametrize("log", [ACCESS_LOG, AUDIT_LOG])
def test_log_says_who_and_what(config: dict[str, Any], log: str) -> None:
    (provider,) = [p for p in config["extensionProviders"] if p["name"] == log]
    labels = provider["envoyFileAccessLog"]["logFormat"]["labels"]
    assert {"tenant_id", "user_id", "method", "path", "code", "request_id", "trace_id"} <= set(
        labels
    )
    assert labels["log"] == {ACCESS_LOG: "access", AUDIT_LOG: "audit"}[log]


def test_access_log_has_what_the_platform_asks_for() -> None:
    fields = access_log_fields(settings("prod").authentication, "production")
    assert fields["session_id"] == "%REQ(x-session-id)%"
    assert fields["conversation_id"] == "%REQ(x-conversation-id)%"
    assert fields["ai_model"] == "%RESP(x-ai-model)%"
    assert fields["token_count"] == "%RESP(x-token-count)%"
    assert fields["cluster"] == "production"


def test_every_field_of_the_access_log_is_documented() -> None:
    document = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    section = document.partition("## The access log\n")[2].partition("\n## ")[0]
    fields = access_log_fields(settings("prod").authentication, "production").keys()
    assert fields - set(re.findall(r"`(\w+)`", section)) == set()
    named = section[section.index("Who:") : section.index("is missing on requests")]
    assert set(re.findall(r"`(\w+)`", named)) - fields == set()


def test_audit_takes_the_principal_from_the_verified_token() -> None:
    fields = audit_log_fields(settings("prod").authentication, "c")
    assert fields["token_subject"] == (
        "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%"
    )


def test_logs_follow_the_header_that_the_settings_name() -> None:
    renamed = settings("prod").authentication.model_copy(
        update={"tenant": ClaimHeader(header="x-organisation", claim="org")}
    )
    for fields in (access_log_fields(renamed, "c"), audit_log_fields(renamed, "c")):
        assert fields["tenant_id"] == "%REQ(x-organisation)%"


CLUSTER = "cluster.outbound|8080||identity-service.voiceassistant-prod.svc.cluster.local"


@pytest.mark.parametrize(
    ("statistic", "published"),
    [
        (f"{CLUSTER};.circuit_breakers.default.cx_open", True),
        (f"{CLUSTER}.circuit_breakers.default.rq_pending_open", True),
        (f"{CLUSTER}.outlier_detection.ejections_active", True),
        (f"{CLUSTER}.upstream_rq_pending_overflow", True),
        (f"{CLUSTER}.ratelimit.error", True),
        ("per_address.http_local_rate_limit.rate_limited", True),
        (
            "listener.0.0.0.0_443.ssl.certificate.kubernetes://tls.expiration_unix_time_seconds",
            True,
        ),
        (f"{CLUSTER}.upstream_rq_total", False),
        (f"{CLUSTER}.circuit_breakers.high.cx_open", False),
        ("cluster.inbound|8080||.upstream_rq_pending_overflow", False),
        ("listener.0.0.0.0_443.downstream_cx_total", False),
    ],
)
def test_published_statistics(config: dict[str, Any], statistic: str, published: bool) -> None:
    expressions = config["defaultConfig"]["proxyStatsMatcher"]["inclusionRegexps"]
    assert any(re.fullmatch(e, statistic) for e in expressions) == published
    # pilot-agent hands the list on joined by commas.
    assert not any("," in expression for expression in expressions)


def test_a_misspelt_field_is_refused() -> None:
    config = mesh_config(settings("prod"))
    with pytest.raises(ValidationError, match="enableAutoMTLS"):
        MeshConfig.model_validate({**config, "enableAutoMTLS": True})
