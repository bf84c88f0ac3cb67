"""What `voicemesh lab start` has brought up: which pods there are, and what all of it needs."""

from __future__ import annotations

from collections import Counter

import pytest

from components import redis
from components.gateway_workload import GATEWAY
from components.rate_limit_workload import NAME as LIMITER
from lab.data_plane import KUBELET, DataPlane, pod_ready
from lab.infrastructure import COLLECTOR, JWKS, OUTSIDE

pytestmark = pytest.mark.lab
_LEAST = 15 * 2**20


def test_a_pod_for_each_service_and_subset_and_what_they_need(mesh: DataPlane) -> None:
    found = mesh.lab.kubectl.get("pods", "--all-namespaces")["items"]
    wanted = Counter(dict.fromkeys((redis.NAME, LIMITER, JWKS, COLLECTOR, OUTSIDE), 1))
    wanted[GATEWAY] = 2
    for service in mesh.catalogue.services:
        wanted[service.name] = max(len(service.subsets), 1)
    assert Counter(pod["metadata"]["labels"]["app"] for pod in found) == wanted
    assert all(pod_ready(pod) for pod in found)


def test_it_takes_less_than_eight_gibibytes(mesh: DataPlane) -> None:
    memory = {part.part: part.memory or 0 for part in mesh.lab.status()}
    # The pods are the kubelet's, and no Envoy gets by with so little.
    assert memory[KUBELET] > _LEAST * len(mesh.lab.kubectl.get("pods", "--all-namespaces")["items"])
    assert sum(memory.values()) < 8 * 2**30
