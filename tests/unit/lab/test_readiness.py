"""When a Deployment of the lab counts as ready: by its status, and by the pods themselves."""

from __future__ import annotations

from typing import Any

import pytest

from lab.data_plane import readiness

LABELS = {"app": "echo", "version": "v1"}


def deployment(**status: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "echo-v1", "namespace": "apps", "generation": 2},
        "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}},
        "status": {
            "observedGeneration": 2, "updatedReplicas": 2, "readyReplicas": 2, **status,
        },
    }  # fmt: skip


def pod(ready: str = "True", namespace: str = "apps", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "labels": {**LABELS, "hash": "1"}, **metadata},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("status", "pods", "ready"),
    [
        ({}, [pod(), pod()], 2),
        ({}, [pod(), pod("False")], 1),
        ({}, [pod(), pod(deletionTimestamp="2026-01-01T00:00:00Z")], 1),
        ({}, [pod(), pod(namespace="other")], 1),
        ({}, [pod(), pod(labels={"app": "echo"})], 1),
        ({}, [pod(), {**pod(), "status": {}}], 1),
        ({"readyReplicas": 1}, [pod(), pod()], 1),
        ({"updatedReplicas": 0}, [pod(), pod()], 0),
        # A new one has been made, and it is the old ones that are ready.
        ({"replicas": 3, "updatedReplicas": 1}, [pod(), pod(), pod("False")], 0),
        ({"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3}, [pod(), pod(), pod()], 2),
        ({"replicas": 3, "updatedReplicas": 2}, [pod(), pod(), pod("False")], 1),
        ({"observedGeneration": 1}, [pod(), pod()], 0),
    ],
)
def test_pods_and_status_must_both_say_so(
    status: dict[str, int], pods: list[dict[str, Any]], ready: int
) -> None:
    assert readiness(deployment(**status), pods) == (ready, 2)
