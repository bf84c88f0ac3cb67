"""What a pod's Envoy says of itself, by its admin interface, which listens inside the pod alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lab.data_plane import DataPlane
from lab.pod import recorded

_PORT = 15000
_ASK = (
    "import sys, urllib.request;"
    f"u = urllib.request.urlopen('http://127.0.0.1:{_PORT}' + sys.argv[1], timeout=10);"
    "sys.stdout.write(u.read().decode())"
)


def answers(data_plane: DataPlane, app: str, path: str) -> Iterator[str]:
    """What the Envoys of all pods of an app answer to a GET of `path`. Raises LabError."""
    for record in recorded(data_plane.pods):
        if record["labels"].get("app") != app:
            continue
        entered = ("nsenter", "-t", str(record["pid"]), "-n", "--")
        yield data_plane.lab.node.run(*entered, sys.executable, "-S", "-c", _ASK, path)


def endpoints(data_plane: DataPlane, app: str, service: str) -> list[set[str]]:
    """For each pod of `app` the addresses of `service` that its Envoy would send requests to."""
    return [
        {
            line.split("::")[1].rsplit(":", 1)[0]
            for line in answer.splitlines()
            if line.startswith("outbound|")
            and f"||{service}." in line
            and line.endswith("::health_flags::healthy")
        }
        for answer in answers(data_plane, app, "/clusters")
    ]
