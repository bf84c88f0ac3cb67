"""The pack as the engine starts it and talks to it: a process, a port on its output, gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime import proto
from pulumi.runtime.proto import analyzer_pb2_grpc

PACK = Path(__file__).resolve().parents[2] / "policies"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine sends in a preview for a text that is not known yet."""
_SECONDS = 120
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", 1 << 28),
    ("grpc.max_receive_message_length", 1 << 28),
]


class Engine:
    """A running pack."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.analyzer = analyzer_pb2_grpc.AnalyzerStub(channel)

    def info(self) -> Any:
        return self.analyzer.GetAnalyzerInfo(empty_pb2.Empty(), timeout=_SECONDS)

    def configure(self, config: Mapping[str, Mapping[str, Any]], levels: Mapping[str, Any]) -> None:
        """Settings and enforcement levels by policy, as `--policy-pack-config` gives them."""
        wanted = {}
        for name in {*config, *levels}:
            entry = proto.PolicyConfig(enforcementLevel=levels.get(name, proto.MANDATORY))
            entry.properties.update(dict(config.get(name, {})))
            wanted[name] = entry
        request = proto.ConfigureAnalyzerRequest(policyConfig=wanted)
        self.analyzer.Configure(request, timeout=_SECONDS)

    def diagnostics(self, objects: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Everything the pack reports of a stack: resource by resource, then as a whole."""
        resources = [_resource(item) for item in objects]
        found: list[Any] = []
        for each in resources:
            request = proto.AnalyzeRequest(
                type=each.type, properties=each.properties, urn=each.urn, name=each.name
            )
            found += self.analyzer.Analyze(request, timeout=_SECONDS).diagnostics
        whole = proto.AnalyzeStackRequest(resources=resources)
        return found + list(self.analyzer.AnalyzeStack(whole, timeout=_SECONDS).diagnostics)


@contextmanager
def running_pack(cwd: Path) -> Iterator[Engine]:
    """Starts the pack the way the engine's Python host does, from a directory of someone else."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(PACK)], stdout=subprocess.PIPE, cwd=cwd, text=True
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
            yield Engine(channel)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _resource(item: Mapping[str, Any]) -> Any:
    """An object as the engine registers it; a release has its values among its properties."""
    api, kind = str(item["apiVersion"]), str(item["kind"])
    metadata = item["metadata"]
    properties = struct_pb2.Struct()
    if (api, kind) == ("helm.sh/v3", "Release"):
        names = {"name": metadata["name"], "namespace": metadata["namespace"]}
        properties.update({**item["spec"], **names})
    else:
        properties.update(dict(item))
    token = f"kubernetes:{api if '/' in api else f'core/{api}'}:{kind}"
    name = f"{metadata.get('namespace', '')}/{metadata['name']}"
    urn = f"urn:pulumi:prod::voicemesh::{token}::{name}"
    return proto.AnalyzerResource(type=token, properties=properties, urn=urn, name=name)
