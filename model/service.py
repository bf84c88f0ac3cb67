"""What one service declares about itself: the vocabulary of `model/catalogue.py`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from model.values import (
    Claim,
    Count,
    Duration,
    Header,
    Host,
    Method,
    Model,
    Name,
    Path,
    PortNumber,
    seconds,
)

STREAM_TIMEOUT = "3600s"
"""How long a WebSocket or a streamed exchange may last where nothing else is said."""


class Port(Model):
    """One port of the service's Kubernetes Service."""

    name: Name
    """Name of the port; what routes refer to."""
    number: PortNumber
    """Service port and container port."""
    protocol: Literal["http", "http2", "grpc"] = "http"
    """`appProtocol` of the Service port. `http2` is for a port that serves both HTTP and gRPC.

    It is always declared: a port left to auto-detection can fall to TCP and lose its HTTP
    authorization.
    """
    metrics: bool = False
    """True for a port that serves Prometheus metrics only; no caller is let in to it."""


class Restriction(Model):
    """Operations of a route that need a role, and so count as administration."""

    methods: tuple[Method, ...] = ()
    """The methods that are restricted; empty means all of the route's."""
    roles: tuple[str, ...] = Field(min_length=1)
    """Values of the token's role claim that are let in."""


class Route(Model):
    """A path prefix of the service that clients reach through the gateway on the API host."""

    path: Path
    methods: tuple[Method, ...] = ()
    """The methods served; empty means every method."""
    port: Name = "http"
    access: Literal["token", "public"] = "token"
    """`token`: only with a valid JWT. `public`: also without one; needs `public_reason`."""
    public_reason: str = ""
    """Why the route may be used without a token. Kept on the policy object for reviewers."""
    restricted: tuple[Restriction, ...] = ()
    audit: tuple[Method, ...] = ()
    """Methods that leave an audit record with who, tenant and what."""
    upload: bool = False
    """True where large request bodies are expected: the larger body limit applies."""
    streaming: bool = False
    """True where answers are streamed (server-sent events): no body limit, no compression,
    no idle cut."""
    stream_timeout: Duration = STREAM_TIMEOUT
    """How long one exchange of a streaming route may last, idle or not."""
    login: bool = False
    """True for routes that check credentials: the far lower login rate limit applies."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.streaming and self.stream_timeout != STREAM_TIMEOUT:
            raise ValueError(f"route {self.path} has a stream_timeout but is not streaming")
        if self.access == "public" and not self.public_reason.strip():
            raise ValueError(
                f"route {self.path} is public without saying so: give public_reason, or leave"
                " access at 'token'"
            )
        if self.access == "token" and self.public_reason:
            raise ValueError(f"route {self.path} has a public_reason but access 'token'")
        if self.access == "public" and self.restricted:
            raise ValueError(f"route {self.path} is public, so no role can be asked of its callers")
        for listed, field in [(self.audit, "audit")] + [
            (r.methods, "restricted") for r in self.restricted
        ]:
            if self.methods and (unserved := sorted(set(listed) - set(self.methods))):
                raise ValueError(
                    f"route {self.path}: {field} names {', '.join(unserved)}, which the route does"
                    f" not serve (methods: {', '.join(self.methods)})"
                )
        return self


class GrpcService(Model):
    """A gRPC service that clients reach through the gateway on the gRPC host, always with a token."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.[A-Z][A-Za-z0-9]*$")
    """Full name: package and service, like `identity.v1.Identity`."""
    port: Name = "grpc"


class WebSocketRoute(Model):
    """A path on the WebSocket host, always with a token at the upgrade."""

    path: Path
    port: Name = "http"
    timeout: Duration = STREAM_TIMEOUT
    """How long one connection may last, idle or not."""


class HashOn(Model):
    """Consistent hashing: requests with the same header value go to the same instance."""

    header: Header


LoadBalancing = Literal["ROUND_ROBIN", "LEAST_REQUEST"] | HashOn


class Locality(Model):
    """How load is spread over zones while all of them are healthy."""

    own_zone_percent: int = Field(ge=1, le=100)
    """Share of the requests that stays in the caller's zone; the others share the rest."""


class Pool(Model):
    """Connection pool limits of the service's DestinationRule.

    A limit left out is Envoy's own default. Source:
    https://istio.io/latest/docs/reference/config/networking/destination-rule/#ConnectionPoolSettings
    """

    max_connections: Count | None = None
    http1_max_pending_requests: Count | None = None
    http2_max_requests: Count | None = None
    max_requests_per_connection: Count | None = None
    h2_upgrade: bool = False
    """Speak HTTP/2 to the service's proxies also for HTTP/1.1 requests."""


class Outliers(Model):
    """When an instance is taken out of load balancing, and for how long."""

    consecutive_5xx: Count | None = None
    """Answers with a 5xx in a row; None turns this detector off."""
    consecutive_gateway: Count | None = None
    """Answers with 502, 503, 504 or a refused connection in a row; None turns it off."""
    interval: Duration = "30s"
    base_ejection: Duration = "30s"
    max_ejection_percent: int = Field(default=50, ge=1, le=100)


class Subset(Model):
    """A version of the service that routes can name; its pods carry the label `version`."""

    name: Name
    version: Name


class Service(Model):
    """One service of the platform: everything the mesh needs to know about it."""

    name: Name
    """Name of the Service, of the `app` label and of the service account."""
    ports: tuple[Port, ...] = Field(min_length=1)
    routes: tuple[Route, ...] = ()
    grpc: tuple[GrpcService, ...] = ()
    websockets: tuple[WebSocketRoute, ...] = ()
    callers: tuple[Name, ...] | Literal["every service"] = ()
    """Services whose service account may call this one; the gateway is not named here, the
    routes say what it may reach."""
    timeout: Duration
    """How long a request may take, retries included."""
    retries: int = Field(default=0, ge=0, le=10)
    """Repetitions after the first try; each gets an equal share of the timeout."""
    load_balancing: LoadBalancing = "LEAST_REQUEST"
    locality: Locality | None = None
    pool: Pool = Pool()
    outliers: Outliers = Outliers()
    subsets: tuple[Subset, ...] = ()
    keep_alive: Duration = "5s"
    """How long the application leaves a connection open on which no request comes; its proxy closes
    it after half of that. Uvicorn's own default is 5 s, gunicorn's 2 s."""
    egress: tuple[Host, ...] = ()
    """Hosts outside the mesh that the service calls over TLS on port 443; nothing else leaves."""
    ai: bool = False
    """Part of the AI group: sampled more, never retried on writes, model and tokens in its logs."""
    tenant_isolated: bool = False
    """Holds tenant data: every request, from inside the mesh too, needs a token with a tenant."""

    @property
    def websocket(self) -> bool:
        """True where clients hold WebSockets open to the service."""
        return bool(self.websockets)

    @property
    def exposed(self) -> bool:
        """True where the gateway routes anything to the service."""
        return bool(self.routes or self.grpc or self.websockets)

    def port(self, name: str) -> Port:
        """The port of that name, which validation has proven to exist."""
        return next(port for port in self.ports if port.name == name)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("port name", [port.name for port in self.ports])
        _unique("port number", [str(port.number) for port in self.ports])
        _unique("subset", [subset.name for subset in self.subsets])
        _unique("subset version", [subset.version for subset in self.subsets])
        _unique("egress host", list(self.egress))
        declared = ", ".join(f"{port.name}:{port.number}" for port in self.ports)
        named = [(f"route {route.path}", route.port) for route in self.routes]
        named += [(f"websocket {ws.path}", ws.port) for ws in self.websockets]
        named += [(f"grpc {grpc.name}", grpc.port) for grpc in self.grpc]
        for what, name in named:
            port = next((port for port in self.ports if port.name == name), None)
            if port is None:
                raise ValueError(
                    f"{what} names port {name!r}, which is not declared (ports: {declared})"
                )
            if port.metrics:
                raise ValueError(f"{what} names port {name!r}, which serves metrics only")
            if what.startswith("grpc") and port.protocol == "http":
                raise ValueError(f"{what}: port {name!r} speaks HTTP/1.1; gRPC needs http2 or grpc")
            if not what.startswith("grpc") and port.protocol == "grpc":
                raise ValueError(f"{what}: port {name!r} speaks gRPC only; it needs http or http2")
        if self.callers != "every service":
            _unique("caller", list(self.callers))
            if self.name in self.callers:
                raise ValueError(f"{self.name} names itself as a caller")
        if seconds(self.keep_alive) < 1:
            raise ValueError(f"keep_alive {self.keep_alive} is shorter than 1s")
        if self.locality and not (
            self.outliers.consecutive_5xx or self.outliers.consecutive_gateway
        ):
            raise ValueError("locality needs outlier detection, or Istio ignores it")
        if self.retries and seconds(self.timeout) / (self.retries + 1) < 1:
            raise ValueError(
                f"timeout {self.timeout} leaves {self.retries + 1} tries less than 1s each"
            )
        return self


class ClaimHeader(Model):
    """A verified claim that is handed on to services as a header."""

    header: Header
    claim: Claim

    @field_validator("header")
    @classmethod
    def _own(cls, header: str) -> str:
        # Istio removes what the client sent under this name, so HTTP's own names can't be used.
        if not header.startswith("x-") or header.startswith(_PROXIES_OWN):
            raise ValueError(
                f"{header!r} is a header of HTTP or of the proxies; take one of your own that"
                f" starts with x- (not {', '.join(_PROXIES_OWN)})"
            )
        return header


_PROXIES_OWN = ("x-forwarded-", "x-envoy-", "x-request-id", "x-b3-", "x-istio-")


def _unique(what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r} is declared twice")
