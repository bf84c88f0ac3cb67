"""What becomes of Services on the node."""

from __future__ import annotations

from typing import Any

from lab.service_proxy import unpublished


def _service(kind: str, address: str | None, *published: str) -> dict[str, Any]:
    ingress = {"ingress": [{"ip": one} for one in published]} if published else {}
    return {
        "metadata": {"name": "gateway", "namespace": "mesh"},
        "spec": {"type": kind, "clusterIP": address},
        "status": {"loadBalancer": ingress},
    }


def test_a_load_balancer_gets_an_address_once() -> None:
    wanting = _service("LoadBalancer", "10.96.0.9")
    others = [
        _service("LoadBalancer", "10.96.0.9", "198.51.100.7"),
        _service("LoadBalancer", None),
        _service("ClusterIP", "10.96.0.9"),
    ]
    assert list(unpublished([*others, wanting])) == [(wanting, "10.96.0.9")]
