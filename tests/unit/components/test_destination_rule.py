"""DestinationRules: limits as declared, detectors that are off are off, shares that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.destination_rule import destination_rule
from model.catalogue import catalogue
from model.service import Locality, Outliers, Port, Service

CATALOGUE = catalogue()


def policy(name: str, zones: tuple[str, ...] = ()) -> dict[str, object]:
    rule = destination_rule(CATALOGUE.service(name), namespace="apps", zones=zones)
    found = rule["spec"]["trafficPolicy"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", CATALOGUE.names)
def test_every_service_is_called_over_mutual_tls(name: str) -> None:
    assert policy(name)["tls"] == {"mode": "ISTIO_MUTUAL"}


def test_limits_are_the_declared_ones() -> None:
    assert policy("voice-engine")["connectionPool"] == {
        "http": {"http1MaxPendingRequests": 1024, "maxRequestsPerConnection": 1},
        "tcp": {"maxConnections": 1000},
    }
    assert policy("ai-orchestrator")["connectionPool"] == {
        "http": {
            "h2UpgradePolicy": "UPGRADE",
            "http2MaxRequests": 500,
            "maxRequestsPerConnection": 5,
        },
        "tcp": {"maxConnections": 500},
    }


def test_a_detector_that_is_not_declared_is_off_not_at_its_default() -> None:
    assert policy("indexing-service")["outlierDetection"] == {
        "baseEjectionTime": "120s",
        "consecutive5xxErrors": 0,
        "consecutiveGatewayErrors": 3,
        "interval": "60s",
        "maxEjectionPercent": 50,
    }


@given(
    own=st.integers(min_value=1, max_value=100),
    zones=st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=7, unique=True),
)
def test_locality_shares_sum_to_100_and_keep_the_own_share(own: int, zones: list[str]) -> None:
    service = Service(
        name="one",
        ports=(Port(name="http", number=80),),
        timeout="1s",
        locality=Locality(own_zone_percent=own),
        outliers=Outliers(consecutive_5xx=1),
    )
    names = tuple(f"r/{zone}" for zone in zones)
    rule = destination_rule(service, namespace="apps", zones=names)
    distribute = rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"]["distribute"]
    assert [entry["from"] for entry in distribute] == [f"{name}/*" for name in names]
    for entry in distribute:
        assert sum(entry["to"].values()) == 100
        assert entry["to"][entry["from"]] >= own
        assert min(entry["to"].values()) > 0


@pytest.mark.parametrize(
    ("name", "zones"), [("ai-orchestrator", ("r/a",)), ("agent-engine", ("r/a", "r/b"))]
)
def test_without_a_preference_all_zones_are_alike(name: str, zones: tuple[str, ...]) -> None:
    """Left out, Istio's own preference for the caller's zone would hold."""
    assert policy(name, zones)["loadBalancer"] == {
        "simple": "LEAST_REQUEST",
        "localityLbSetting": {"enabled": False},
    }
