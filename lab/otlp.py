"""An OTLP collector that writes down what it gets: `python -m lab.otlp --port N`.

Each span is one JSON line on standard output, which the kubelet keeps as the pod's log. Traces
only: the stack sends nothing else by OTLP.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def export(request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
    """Write every span of a request."""
    lines = []
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                record = {
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "service": resource.get("service.name", ""),
                    "tags": _attributes(span.attributes),
                }
                lines.append(json.dumps(record, separators=(",", ":")) + "\n")
    sys.stdout.write("".join(lines))
    sys.stdout.flush()
    return ExportTraceServiceResponse()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4317)
    given = parser.parse_args()
    # The first process of a pid namespace hears only signals that it has a handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = grpc.server(futures.ThreadPoolExecutor(4))
    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"Export": method}),)
    )
    server.add_insecure_port(f"0.0.0.0:{given.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
