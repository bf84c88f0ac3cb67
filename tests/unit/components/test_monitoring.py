"""Monitors and alerts: valid PromQL on metrics and targets that exist."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest

import mesh
from components.alerts import GATEWAY_JOB, ISTIOD_JOB, SIDECARS_JOB
from components.mesh_config import mesh_config
from components.objects import Manifest
from model import stack_file
from model.catalogue import catalogue
from model.settings import Monitoring, Settings

CATALOGUE = catalogue()
STACKS = ("dev", "staging", "prod")


def settings(stack: str, **monitoring: Any) -> Settings:
    loaded = stack_file.load(stack, CATALOGUE)
    changed = loaded.monitoring.model_copy(update=monitoring)
    return loaded.model_copy(update={"monitoring": changed})


def built(stack: str, **monitoring: Any) -> list[Manifest]:
    parts = mesh.parts(stack, settings(stack, **monitoring), CATALOGUE)
    (part,) = [part for part in parts if part.name == "monitoring"]
    return [declared for declared in part.objects() if isinstance(declared, dict)]


def alerts(stack: str, **monitoring: Any) -> dict[str, dict[str, Any]]:
    (rule,) = [m for m in built(stack, **monitoring) if m["kind"] == "PrometheusRule"]
    found = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    assert len({one["alert"] for one in found}) == len(found)
    return {one["alert"]: one for one in found}


class Selectors(list[Any]):
    """Every selector of an expression."""

    def __init__(self, expression: str) -> None:
        super().__init__()
        self._visit(promql_parser.parse(expression))

    def _visit(self, node: Any) -> None:
        match node:
            case promql_parser.VectorSelector():
                self.append(node)
            case promql_parser.MatrixSelector():
                self._visit(node.vector_selector)
            case promql_parser.Call():
                for argument in node.args:
                    self._visit(argument)
            case promql_parser.BinaryExpr():
                self._visit(node.lhs)
                self._visit(node.rhs)
            case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
                pass
            case _:
                self._visit(node.expr)


def matchers(selector: Any) -> dict[str, str]:
    return {matcher.name: matcher.value for matcher in selector.matchers.matchers}


@pytest.mark.parametrize("stack", STACKS)
def test_every_alert_is_valid_and_tells_a_reader_what_to_do(stack: str) -> None:
    found = alerts(stack)
    assert len(found) >= 14
    for alert in found.values():
        assert Selectors(alert["expr"])
        assert alert["labels"] == {"severity": alert["labels"]["severity"], "stack": stack}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")


def test_the_platforms_alerts_are_there() -> None:
    assert {
        "GatewayDown",
        "ServiceErrors",
        "ServiceLatency",
        "PlaintextInMesh",
        "CircuitOpen",
        "RequestsOverflow",
        "InstanceEjected",
        "AiLatency",
        "AiTokens",
        "RateLimitServiceUnreachable",
        "ConfigurationRejected",
        "WorkloadCertificateNotRenewed",
        "PublicCertificateExpires",
        "RootCertificateExpires",
        "IstiodDown",
    } <= set(alerts("prod"))


def test_no_alert_on_a_control_plane_of_someone_elses() -> None:
    assert "IstiodDown" not in alerts("dev")
    assert not [m for m in built("dev") if m["kind"] == "ServiceMonitor"]


@pytest.mark.parametrize("stack", STACKS)
def test_jobs_that_alerts_name_are_jobs_of_monitors(stack: str) -> None:
    jobs = set()
    for monitor in built(stack):
        if monitor["kind"] == "PodMonitor":
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            (job,) = [
                r["replacement"] for r in endpoint["relabelings"] if r.get("targetLabel") == "job"
            ]
            jobs.add(job)
        elif monitor["kind"] == "ServiceMonitor":
            jobs.add(monitor["metadata"]["name"])
    named = {
        matchers(selector)["job"]
        for alert in alerts(stack).values()
        for selector in Selectors(alert["expr"])
        if "job" in matchers(selector)
    }
    assert named <= jobs
    assert jobs >= {GATEWAY_JOB, SIDECARS_JOB}
    assert (ISTIOD_JOB in jobs) == (stack != "dev")


@pytest.mark.parametrize("stack", STACKS)
def test_envoy_statistics_that_alerts_read_are_published(stack: str) -> None:
    """Istio publishes few of Envoy's statistics unless meshConfig asks for them."""
    published = mesh_config(settings(stack))["defaultConfig"]["proxyStatsMatcher"]
    (expression,) = published["inclusionRegexps"]
    cluster = "cluster.outbound|8080||a.b.svc.cluster.local;"
    names = {
        f"{cluster}.circuit_breakers.default.cx_open",
        f"{cluster}.circuit_breakers.default.rq_open",
        f"{cluster}.circuit_breakers.default.rq_pending_open",
        f"{cluster}.outlier_detection.ejections_active",
        f"{cluster}.upstream_cx_overflow",
        f"{cluster}.upstream_rq_pending_overflow",
        f"{cluster}.ratelimit.error",
        f"{cluster}.ratelimit.over_limit",
        "listener.0.0.0.0_443.ssl.certificate.kubernetes://voiceassistant-tls-cert"
        ".expiration_unix_time_seconds",
    }
    assert all(re.fullmatch(expression, name) for name in names)
    # As Prometheus sees them: the cluster's name becomes a label, the rest is the metric.
    exported = {
        "envoy_" + re.sub(r"[^a-zA-Z0-9_]", "_", name.replace(f"{cluster}.", "cluster."))
        for name in names
    }
    for alert in alerts(stack).values():
        for selector in Selectors(alert["expr"]):
            named = matchers(selector).get("__name__") or re.escape(selector.name)
            if named.startswith("envoy_"):
                assert any(re.fullmatch(named, name) for name in exported), named


def test_thresholds_are_the_settings() -> None:
    found = alerts(
        "prod",
        **Monitoring(
            error_percent=2.5, latency="750ms", ai_latency="2m", tokens_per_minute=1234
        ).model_dump(),
    )
    assert "> 2.5 and" in found["ServiceErrors"]["expr"]
    assert found["ServiceLatency"]["expr"].endswith("> 750")
    assert found["AiLatency"]["expr"].endswith("> 120000")
    assert found["AiTokens"]["expr"].endswith("> 1234")


def test_long_answers_are_not_held_to_the_short_ones_limit() -> None:
    found = alerts("prod")
    named = {
        name: set(matchers(selector)["destination_service_name"].split("|"))
        for name in ("ServiceLatency", "AiLatency")
        for selector in Selectors(found[name]["expr"])
    }
    assert named["AiLatency"] == {s.name for s in CATALOGUE.services if s.ai}
    assert named["ServiceLatency"].isdisjoint({*named["AiLatency"], "voice-engine"})
    assert "identity-service" in named["ServiceLatency"]


@pytest.mark.parametrize("stack", STACKS)
def test_objects_carry_the_labels_that_prometheus_selects_by(stack: str) -> None:
    wanted = settings(stack).monitoring.labels
    for manifest in built(stack):
        assert wanted.items() <= manifest["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("pod", "address"), [("10.1.2.3", "10.1.2.3:15020"), ("fd00::7", "[fd00::7]:15020")]
)
def test_pods_are_scraped_on_the_merged_port(pod: str, address: str) -> None:
    monitor = built("prod")[0]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    found = None
    for relabeling in endpoint["relabelings"]:
        if relabeling.get("targetLabel") == "__address__" and (
            match := re.fullmatch(relabeling["regex"], pod)
        ):
            found = relabeling["replacement"].replace("$1", match[1])
    assert found == address


@pytest.mark.parametrize(
    ("interval", "written"), [("30s", "30s"), ("1.5s", "1500ms"), ("1m", "60s")]
)
def test_interval_in_the_operators_words(interval: str, written: str) -> None:
    (endpoint,) = built("prod", interval=interval)[0]["spec"]["podMetricsEndpoints"]
    assert endpoint["interval"] == written


def test_off_means_nothing_that_needs_the_operators_crds() -> None:
    assert built("prod", enabled=False) == []
