"""How long the policies take on a mesh of N services: `python bench/check_scale.py [N]`.

The mesh is the prod stack's own objects, multiplied: each copy of an object of the applications'
namespace gets new service names, hosts, paths and accounts, so that everything refers to its own.
The gateway's own policies are not multiplied, so it is reported that they ask for no role on the
paths of the copies.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import render
from policies.run import check

_PER_SERVICE = {
    "AuthorizationPolicy", "VirtualService", "DestinationRule", "Sidecar", "ServiceEntry",
    "Service", "ServiceAccount", "Telemetry", "Deployment",
}  # fmt: skip


def multiplied(objects: list[dict[str, Any]], copies: int) -> list[dict[str, Any]]:
    """The objects, with those of the applications `copies` times."""
    apps = next(
        o["metadata"]["name"]
        for o in objects
        if o["kind"] == "Namespace"
        and (o["metadata"].get("labels") or {}).get("istio-injection") == "enabled"
    )
    services = [
        o["metadata"]["name"]
        for o in objects
        if o["kind"] == "Service" and o["metadata"]["namespace"] == apps
    ]
    paths = r"/(api/v1|ws|health|healthz|ready)\b|/([a-z]+\.v1\.)"
    names = "|".join(sorted(services, key=len, reverse=True))
    found = list(objects)
    for copy in range(1, copies):
        for item in objects:
            if item["kind"] in _PER_SERVICE and item["metadata"].get("namespace") == apps:
                text = re.sub(rf"\b({names})\b(?!-redis)", rf"\1-{copy}", json.dumps(item))
                text = re.sub(paths, rf"/c{copy}\g<0>", text)
                found.append(json.loads(text))
    return found


def main() -> None:
    """Prints objects, seconds and violations."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    objects = [o for o in render.objects("prod") if o["kind"] != "CustomResourceDefinition"]
    services = sum(o["kind"] == "Service" for o in objects) - 3
    mesh = multiplied(objects, -(-wanted // services))
    start = time.perf_counter()
    found = check(mesh)
    seconds = time.perf_counter() - start
    kinds = Counter(o["kind"] for o in mesh)
    print(f"{kinds['Service']} services, {len(mesh)} objects: {seconds:.1f} s")
    print(f"{len(found)} violations: {dict(Counter(v.policy_id for v in found))}")


if __name__ == "__main__":
    main()
