"""The fifteen services of VoiceAssistant. To change what the mesh does for a service, edit it here.

What a field means stands in `model/service.py`. Everything else (policies, routes, sidecars,
limits, monitors, contracts) is derived.
"""

from __future__ import annotations

from model.access import Catalogue
from model.service import (
    GrpcService,
    HashOn,
    Locality,
    Outliers,
    Pool,
    Port,
    Restriction,
    Route,
    Service,
    Subset,
    WebSocketRoute,
)

ADMINISTRATORS = ("admin", "super-admin")
VERSIONS = (Subset(name="v1", version="v1"), Subset(name="canary", version="canary"))


def services() -> tuple[Service, ...]:
    """All services, in the order of the platform's own documentation."""
    return (
        Service(
            name="identity-service",
            ports=(_http(8080), _grpc(9000), _metrics()),
            routes=(
                Route(
                    path="/api/v1/auth",
                    access="public",
                    public_reason="signing in is how a client gets its token",
                    login=True,
                ),
                Route(
                    path="/api/v1/users",
                    restricted=(Restriction(methods=("DELETE",), roles=ADMINISTRATORS),),
                    audit=("PUT", "DELETE"),
                ),
            ),
            grpc=(GrpcService(name="identity.v1.Identity"),),
            callers="every service",
            timeout="10s",
            retries=3,
            load_balancing=HashOn(header="x-user-id"),
            pool=_pool(1000, 1024, 1024, 10),
            outliers=Outliers(consecutive_5xx=5, consecutive_gateway=5),
            subsets=VERSIONS,
        ),
        Service(
            name="conversation-service",
            ports=(_http(8080), _grpc(9001), _metrics()),
            routes=(Route(path="/api/v1/conversations"), Route(path="/api/v1/messages")),
            grpc=(GrpcService(name="conversation.v1.Conversation"),),
            websockets=(WebSocketRoute(path="/ws/conversation"),),
            callers=("ai-orchestrator", "voice-engine", "agent-engine"),
            timeout="30s",
            retries=2,
            load_balancing=HashOn(header="x-conversation-id"),
            pool=_pool(2000, 2048, 2048, 10),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3, interval="20s"),
            subsets=VERSIONS,
            tenant_isolated=True,
        ),
        Service(
            name="knowledge-service",
            ports=(_http(8080), _grpc(9000)),
            routes=(
                Route(path="/api/v1/knowledge", audit=("PUT", "DELETE")),
                Route(path="/api/v1/documents", audit=("PUT", "DELETE"), upload=True),
            ),
            grpc=(GrpcService(name="knowledge.v1.Knowledge"),),
            callers=("rag-engine", "indexing-service", "agent-engine"),
            timeout="60s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(500, 1024, 1024, 10),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3),
            tenant_isolated=True,
        ),
        Service(
            name="ai-orchestrator",
            ports=(_http(9003), _grpc(9103), _metrics()),
            routes=(
                Route(path="/api/v1/ai", methods=("POST",), streaming=True),
                _health("/health"),
                _health("/healthz"),
                _health("/ready"),
            ),
            grpc=(GrpcService(name="ai.v1.Orchestrator"),),
            callers=("conversation-service", "agent-engine", "voice-engine"),
            timeout="120s",
            retries=1,
            load_balancing="LEAST_REQUEST",
            locality=Locality(own_zone_percent=80),
            pool=_pool(500, None, 500, 5, h2_upgrade=True),
            outliers=Outliers(
                consecutive_5xx=2, consecutive_gateway=2, interval="10s", base_ejection="60s"
            ),
            ai=True,
        ),
        Service(
            name="model-router",
            # The service answers HTTP and gRPC on its one port, so the port is HTTP/2.
            ports=(_http(9004, "http2"),),
            routes=(
                Route(
                    path="/api/v1/models",
                    restricted=(
                        Restriction(
                            methods=("POST", "PUT", "PATCH", "DELETE"), roles=("super-admin",)
                        ),
                    ),
                ),
            ),
            grpc=(GrpcService(name="model.v1.Router", port="http"),),
            callers=("ai-orchestrator", "agent-engine", "rag-engine", "multimodal-engine"),
            timeout="180s",
            load_balancing="LEAST_REQUEST",
            pool=_pool(500, 1024, 1024, 5),
            outliers=Outliers(
                consecutive_5xx=5,
                consecutive_gateway=5,
                base_ejection="60s",
                max_ejection_percent=30,
            ),
            ai=True,
        ),
        Service(
            name="agent-engine",
            ports=(_http(8003),),
            routes=(Route(path="/api/v1/agent", streaming=True),),
            callers=("ai-orchestrator",),
            timeout="120s",
            retries=2,
            load_balancing="LEAST_REQUEST",
            pool=_pool(300, 512, 512, 3),
            outliers=Outliers(
                consecutive_5xx=3, consecutive_gateway=3, interval="20s", base_ejection="60s"
            ),
            ai=True,
        ),
        Service(
            name="rag-engine",
            ports=(_http(8006),),
            routes=(Route(path="/api/v1/rag"),),
            callers=("ai-orchestrator", "agent-engine"),
            timeout="60s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(500, 1024, 1024, 10),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3),
            ai=True,
            tenant_isolated=True,
        ),
        Service(
            name="retrieval-service",
            ports=(_http(8012),),
            routes=(Route(path="/api/v1/retrieval"),),
            callers=("rag-engine", "agent-engine", "knowledge-service"),
            timeout="30s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(600, 1024, 1024, 10),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3),
            tenant_isolated=True,
        ),
        Service(
            name="model-adapter",
            ports=(_http(8005),),
            callers=("model-router",),
            timeout="180s",
            load_balancing="LEAST_REQUEST",
            pool=_pool(400, 512, 512, 5),
            outliers=Outliers(
                consecutive_5xx=5,
                consecutive_gateway=5,
                base_ejection="120s",
                max_ejection_percent=30,
            ),
            egress=(
                "api.anthropic.com",
                "api.openai.com",
                "generativelanguage.googleapis.com",
            ),
            ai=True,
        ),
        Service(
            name="voice-engine",
            ports=(_http(8002),),
            routes=(Route(path="/api/v1/voice", streaming=True),),
            websockets=(WebSocketRoute(path="/ws/voice"),),
            callers=("conversation-service",),
            timeout="300s",
            retries=1,
            load_balancing=HashOn(header="x-session-id"),
            pool=_pool(1000, 1024, None, 1),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3),
        ),
        Service(
            name="multimodal-engine",
            ports=(_http(8007),),
            routes=(Route(path="/api/v1/multimodal", upload=True),),
            callers=("ai-orchestrator", "agent-engine"),
            timeout="120s",
            retries=2,
            load_balancing="LEAST_REQUEST",
            pool=_pool(300, 512, 512, 5),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3, base_ejection="60s"),
            ai=True,
        ),
        Service(
            name="indexing-service",
            ports=(_http(8004),),
            callers=("knowledge-service",),
            timeout="300s",
            retries=1,
            load_balancing="ROUND_ROBIN",
            pool=_pool(200, 256, None, 5),
            outliers=Outliers(consecutive_gateway=3, interval="60s", base_ejection="120s"),
        ),
        Service(
            name="vector-store-adapter",
            ports=(_http(8013),),
            callers=("retrieval-service", "indexing-service"),
            timeout="30s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(500, 1024, None, 10),
            outliers=Outliers(consecutive_5xx=3, consecutive_gateway=3),
            tenant_isolated=True,
        ),
        Service(
            name="analytics-service",
            ports=(_http(9007),),
            routes=(
                Route(
                    path="/api/v1/analytics",
                    methods=("GET",),
                    restricted=(Restriction(roles=ADMINISTRATORS),),
                ),
            ),
            callers=("ai-orchestrator", "conversation-service", "voice-engine"),
            timeout="30s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(500, 1024, 1024, None),
            outliers=Outliers(consecutive_gateway=3),
        ),
        Service(
            name="notification-service",
            ports=(_http(9006),),
            routes=(Route(path="/api/v1/notification"),),
            callers=("conversation-service", "identity-service", "analytics-service"),
            timeout="10s",
            retries=2,
            load_balancing="ROUND_ROBIN",
            pool=_pool(500, 512, 512, None),
            outliers=Outliers(consecutive_gateway=3, interval="20s"),
        ),
    )


def catalogue() -> Catalogue:
    """The platform's catalogue, checked as a whole.

    Raises:
        model.invalid.InvalidInput: a declaration is wrong; the message names file and line.
    """
    return Catalogue.declare(services)


def _http(number: int, protocol: str = "http") -> Port:
    return Port.model_validate({"name": "http", "number": number, "protocol": protocol})


def _grpc(number: int) -> Port:
    return Port(name="grpc", number=number, protocol="grpc")


def _metrics() -> Port:
    return Port(name="metrics", number=9090, metrics=True)


def _health(path: str) -> Route:
    return Route(
        path=path,
        methods=("GET",),
        access="public",
        public_reason="load balancers and uptime monitors have no token",
    )


def _pool(
    connections: int,
    pending: int | None,
    requests: int | None,
    per_connection: int | None,
    *,
    h2_upgrade: bool = False,
) -> Pool:
    return Pool(
        max_connections=connections,
        http1_max_pending_requests=pending,
        http2_max_requests=requests,
        max_requests_per_connection=per_connection,
        h2_upgrade=h2_upgrade,
    )
