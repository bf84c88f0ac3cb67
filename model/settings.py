"""One environment of the mesh: what may differ between dev, staging and prod.

Each field of `Settings` is one key of a stack file (`voicemesh:gateway` and so on). What a stack
file leaves out has the default given here, and the default of anything that opens the mesh is
closed. The config schema in `Pulumi.yaml` is made from this module.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.service import ClaimHeader, Pool
from model.values import (
    Address,
    Cidr,
    CipherSuite,
    Count,
    Duration,
    Header,
    Host,
    Image,
    Model,
    Name,
    Origin,
    Path,
    Percentage,
    PortNumber,
    ServiceAccountRef,
    TlsVersion,
    Url,
    seconds,
)


class Namespaces(Model):
    """Where things live. The gateway and the mesh-wide policies live in `istio-system`."""

    apps: Name
    """The services; injected."""
    infra: Name = "voiceassistant-infra"
    """Redis, the OpenTelemetry collector, Prometheus; not injected."""
    mesh: Name = "istio-system"
    """Istio's root namespace: control plane and gateway."""

    @model_validator(mode="after")
    def _separate(self) -> Self:
        names = [self.apps, self.infra, self.mesh]
        if len(set(names)) < len(names):
            raise ValueError(f"apps, infra and mesh must differ, found {', '.join(names)}")
        return self


class Size(Model):
    """How many replicas of a workload run and what each may use."""

    replicas: int = Field(default=1, ge=1, le=100)
    """Replicas at rest; also the autoscaler's minimum."""
    max_replicas: int = Field(default=1, ge=1, le=500)
    """The autoscaler's maximum; equal to `replicas` means no autoscaler."""
    cpu: str = Field(default="100m", pattern=r"^[1-9]\d*m?$")
    """CPU request, in cores or millicores."""
    memory: str = Field(default="128Mi", pattern=r"^[1-9]\d*(Mi|Gi)$")
    """Memory request."""
    cpu_limit: str = Field(default="2000m", pattern=r"^[1-9]\d*m?$")
    memory_limit: str = Field(default="1Gi", pattern=r"^[1-9]\d*(Mi|Gi)$")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas < self.replicas:
            raise ValueError(f"maxReplicas {self.max_replicas} is below replicas {self.replicas}")
        for name, least, most in (
            ("cpu", self.cpu, self.cpu_limit),
            ("memory", self.memory, self.memory_limit),
        ):
            if _quantity(most) < _quantity(least):
                raise ValueError(f"{name}Limit {most} is below {name} {least}")
        return self


def _quantity(text: str) -> Decimal:
    """A quantity of Kubernetes in cores or bytes, of those that `Size` takes."""
    for unit, factor in (("m", Decimal("0.001")), ("Mi", Decimal(2**20)), ("Gi", Decimal(2**30))):
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * factor
    return Decimal(text)


class ControlPlane(Model):
    """The Istio installation."""

    mode: Literal["install", "external"] = "install"
    """`install`: base and istiod come from Istio's charts. `external`: someone else runs istiod
    (the lab, a managed mesh) and owns its namespace; the stack brings the gateway and the rest."""
    version: str = Field(default="1.31.1", pattern=r"^1\.\d+\.\d+$")
    """Version of Istio's charts and images."""
    chart_repository: str = Field(
        default="https://istio-release.storage.googleapis.com/charts",
        pattern=r"^(https|oci)://[^\s/]+(/\S*)?$",
    )
    """Helm repository of the charts base, istiod and gateway."""
    trust_domain: Host = "cluster.local"
    cluster: Name = "voiceassistant"
    """Name of this cluster in telemetry."""
    drain_duration: Duration = "45s"
    """How long connections of a listener that was replaced go on, under the rules they began with:
    any change of policies, telemetry or filters replaces listeners. WebSockets and streams that
    last longer are cut. Gateways and sidecars; needs new pods."""
    istiod: Size = Size(replicas=1, max_replicas=1, cpu="100m", memory="256Mi")
    highly_available: bool = False
    """Disruption budgets, spreading over nodes and a surge-only rollout for istiod and gateway."""

    @field_validator("drain_duration")
    @classmethod
    def _whole_seconds(cls, drain_duration: str) -> str:
        # Envoy reads them as a whole number: --drain-time-s.
        if seconds(drain_duration) % 1 or seconds(drain_duration) < 1:
            raise ValueError(f"{drain_duration} is not a whole number of seconds, at least one")
        return drain_duration


class Tls(Model):
    """TLS of the public servers."""

    credential_name: Name
    """kubernetes.io/tls Secret beside the gateway."""
    min_version: TlsVersion = "TLSV1_2"
    max_version: TlsVersion = "TLSV1_3"
    cipher_suites: tuple[CipherSuite, ...] = Field(
        default=(
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
        ),
        min_length=1,
    )
    """TLS 1.2 suites in order of preference."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_version < self.min_version:
            raise ValueError(
                f"maxVersion {self.max_version} is below minVersion {self.min_version}"
            )
        return self


class Gateway(Model):
    """The ingress gateway and its public hosts (`api.`, `ws.` and `grpc.` of the domain)."""

    tls: Tls
    size: Size = Size()
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    """How many proxies before the gateway append to X-Forwarded-For. Too high, and clients can
    forge their address; too low, and every client has the load balancer's."""
    east_west: bool = True
    """A second entry on port 15443 for workloads with a mesh certificate (ISTIO_MUTUAL)."""


class Issuer(Model):
    """One issuer of tokens."""

    issuer: str = Field(min_length=1, pattern=r"^\S+$")
    """The `iss` claim, compared character by character."""
    jwks_uri: Url
    """Where istiod fetches the issuer's public keys."""
    audiences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """Values of `aud` that are accepted; a token needs one of them."""


class Authentication(Model):
    """Who may sign tokens, and which claims services see as headers."""

    issuers: tuple[Issuer, ...] = Field(min_length=1)
    tenant: ClaimHeader = ClaimHeader(header="x-tenant-id", claim="tenant_id")
    user: ClaimHeader = ClaimHeader(header="x-user-id", claim="user_id")
    role: ClaimHeader = ClaimHeader(header="x-user-role", claim="role")

    @field_validator("issuers")
    @classmethod
    def _distinct(cls, issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
        names = [issuer.issuer for issuer in issuers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"issuer {name!r} is listed twice; list each issuer once")
        return issuers

    @model_validator(mode="after")
    def _separate_headers(self) -> Self:
        headers = [self.tenant.header, self.user.header, self.role.header]
        if len(set(headers)) < len(headers):
            raise ValueError(f"tenant, user and role need headers of their own, found {headers}")
        return self


class Authorization(Model):
    """Who is kept out whatever they present."""

    denied_addresses: tuple[Cidr, ...] = ()
    """Client addresses that are refused everywhere."""
    admin_addresses: tuple[Cidr, ...] = ()
    """Client addresses that may use operations restricted to a role; empty means none may."""
    denied_user_agents: tuple[
        Annotated[str, Field(min_length=3, pattern=r"^[A-Za-z0-9._ /-]+$")], ...
    ] = ()
    """Products whose name anywhere in User-Agent, in any case, is refused."""
    metrics_readers: tuple[ServiceAccountRef, ...] = ()
    """Service accounts that may read metrics ports over mTLS (`namespace/name`)."""


class Cors(Model):
    """Which web applications may call the API from a browser."""

    allowed_origins: tuple[Origin, ...] = ()
    max_age: Duration = "24h"


class Bodies(Model):
    """Largest request bodies, in bytes. Streaming routes and upgrades have none."""

    limit: int = Field(default=1_048_576, ge=1024, le=1_073_741_824)
    upload_limit: int = Field(default=52_428_800, ge=1024, le=1_073_741_824)
    """For routes that take document uploads."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.upload_limit < self.limit:
            raise ValueError(f"uploadLimit {self.upload_limit} is below limit {self.limit}")
        return self


class Http2(Model):
    """HTTP/2 limits of one client connection at the gateway."""

    max_concurrent_streams: int = Field(default=100, ge=1, le=10_000)
    initial_stream_window: int = Field(default=65_536, ge=65_535, le=2_147_483_647)
    initial_connection_window: int = Field(default=1_048_576, ge=65_535, le=2_147_483_647)


class Edge(Model):
    """What the gateway does to every request, beyond routing and access."""

    cors: Cors = Cors()
    bodies: Bodies = Bodies()
    http2: Http2 = Http2()
    compression_from: int = Field(default=1024, ge=128, le=1_048_576)
    """Smallest answer, in bytes, that is compressed."""
    connection_idle: Duration = "1h"
    """A client connection without any request is closed after this."""
    stream_idle: Duration = "300s"
    """A request in which nothing moves is ended after this; WebSockets and streams are spared."""
    request_headers: Duration = "15s"
    """How long a client may take to send the headers of a request."""
    content_security_policy: str = Field(
        default="default-src 'none'; frame-ancestors 'none'",
        pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
    )
    hsts_max_age: Duration = "8760h"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if seconds(self.stream_idle) > seconds(self.connection_idle):
            raise ValueError(
                f"streamIdle {self.stream_idle} is longer than connectionIdle"
                f" {self.connection_idle}"
            )
        return self


class Allowance(Model):
    """So many requests in each unit of time."""

    requests: Count
    unit: Literal["second", "minute", "hour"]


class Redis(Model):
    """Where the rate-limit service counts."""

    mode: Literal["managed", "external"] = "managed"
    """`managed`: a Redis of the stack's own, with a generated password. `external`: `address`,
    with the password in the Secret `password_secret` under the key `password`."""
    address: Address | None = None
    """`HOST:PORT`, the host a full name or an IPv4 address."""
    password_secret: Name = "ratelimit-redis"  # noqa: S105 - the name of a Secret
    image: Image = "docker.io/library/redis:7.4.2-alpine"

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if (self.mode == "external") != (self.address is not None):
            raise ValueError("give address (host:port) with mode 'external' and only then")
        return self


class RateLimits(Model):
    """Local limits per client address, and global ones shared by all gateways."""

    per_address: Allowance = Allowance(requests=1000, unit="minute")
    """Each client address at each gateway instance."""
    tracked_addresses: int = Field(default=10_000, ge=100, le=1_000_000)
    """How many addresses one gateway instance keeps count of; the least recently seen is forgotten
    first."""
    per_tenant: Allowance = Allowance(requests=100, unit="second")
    """Each tenant on each route prefix, over all gateways."""
    login: Allowance = Allowance(requests=10, unit="minute")
    """Each client address on login routes, over all gateways."""
    routes: dict[Path, Allowance] = {}
    """Another allowance per tenant for a route prefix of the catalogue."""
    closed_on_failure: tuple[Path, ...] = ("/api/v1/auth",)
    """Route prefixes that answer 503 while the rate-limit service can't be asked; all others
    let the request through."""
    timeout: Duration = "250ms"
    """A question to the rate-limit service that is not answered within this counts as failed."""
    size: Size = Size()
    image: Image = "docker.io/envoyproxy/ratelimit:3fb70258"
    redis: Redis = Redis()


class Sampling(Model):
    """Share of the requests that are traced, in percent."""

    default: Percentage = 10
    ai: Percentage = 50
    websocket: Percentage = 100


class AccessLog(Model):
    """The JSON access log."""

    errors_only: bool = False
    """Log only answers from 400 up and broken connections."""


class Metrics(Model):
    """Tags of Istio's request metrics beyond its own."""

    tenant: bool = True
    """Adds `tenant_id`: one series more for each tenant, service and code."""
    model: bool = True
    """Adds `ai_model` on the AI services."""
    user: bool = False
    """Adds `user_id`. Off: users are unbounded, and each one would be a series of its own."""


class Telemetry(Model):
    """Traces, metrics and access log."""

    sampling: Sampling = Sampling()
    collector: Host = "otel-collector.voiceassistant-infra.svc.cluster.local"
    """OpenTelemetry collector, OTLP over gRPC."""
    collector_port: PortNumber = 4317
    access_log: AccessLog = AccessLog()
    metrics: Metrics = Metrics()


class Monitoring(Model):
    """Objects of the Prometheus operator."""

    enabled: bool = True
    labels: dict[Name, Name] = {}
    """Labels that the cluster's Prometheus selects its monitors and rules by."""
    interval: Duration = "30s"
    error_percent: Percentage = 5
    """Share of 5xx answers of one service that raises an alert."""
    latency: Duration = "2s"
    """99th percentile of a service's answers that raises an alert."""
    ai_latency: Duration = "60s"
    tokens_per_minute: Count = 500_000
    """Tokens of one tenant a minute that raise an alert."""


class Cohort(Model):
    """Callers that always meet one subset."""

    subset: Name
    header: Header | None = None
    cookie: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    value: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Value of the header, or of the cookie, that marks the cohort."""

    @model_validator(mode="after")
    def _one_mark(self) -> Self:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("a cohort is marked by a header or by a cookie: give one of the two")
        return self


class Split(Model):
    """How the traffic of a service with subsets is divided."""

    weights: dict[Name, Annotated[int, Field(ge=0, le=100, strict=True)]] = Field(min_length=1)
    """Percent of the requests for each subset; they sum to 100."""
    cohorts: tuple[Cohort, ...] = ()
    """Looked at in this order, before the weights."""
    owner: Literal["stack", "controller"] = "stack"
    """`controller`: a progressive-delivery controller moves the weights after the first update,
    and the stack leaves them alone."""

    @field_validator("weights")
    @classmethod
    def _sum(cls, weights: dict[str, int]) -> dict[str, int]:
        if (total := sum(weights.values())) != 100:
            raise ValueError(f"the weights sum to {total}, they must sum to 100")
        return weights


class Override(Model):
    """What an environment changes of a service's declaration in the catalogue."""

    timeout: Duration | None = None
    retries: int | None = Field(default=None, ge=0, le=10)
    pool: Pool | None = None
    stream_timeout: Duration | None = None
    """How long the service's WebSockets and streamed exchanges may last, idle or not."""
    size: Size | None = None


class Workloads(Model):
    """Who runs the services' pods."""

    mode: Literal["external", "echo"] = "external"
    """`external`: the platform's own charts. `echo`: Istio's echo server in the place of each
    service, so that a mesh can be tried without the product."""
    image: Image = "docker.io/istio/app:1.31.1"
    size: Size = Size(cpu="10m", memory="32Mi", cpu_limit="500m", memory_limit="128Mi")


class Settings(Model):
    """Everything that one stack file says."""

    domain: Host
    """Public domain; the hosts are `api.`, `ws.` and `grpc.` of it."""
    namespaces: Namespaces
    """Where things live; `apps` is required."""
    gateway: Gateway
    """The ingress gateway: TLS, size, trusted proxies."""
    authentication: Authentication
    """Who may sign tokens, and which claims services see as headers."""
    control_plane: ControlPlane = ControlPlane()
    """The Istio installation."""
    authorization: Authorization = Authorization()
    """Addresses and clients that are kept out, addresses that may administrate."""
    edge: Edge = Edge()
    """What the gateway does to every request: CORS, bodies, compression, timeouts, headers."""
    rate_limits: RateLimits = RateLimits()
    """Local limits per client address, global ones per tenant and route."""
    telemetry: Telemetry = Telemetry()
    """Traces, metrics and access log."""
    monitoring: Monitoring = Monitoring()
    """Objects of the Prometheus operator: monitors and alerts."""
    zones: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")], ...] = ()
    """Zones the services run in, as `region/zone`; locality preferences need two or more."""
    traffic: dict[Name, Split] = {}
    """Canary weights and cohorts for services with subsets."""
    services: dict[Name, Override] = {}
    """Changes to services of the catalogue for this environment."""
    workloads: Workloads = Workloads()
    """Who runs the services' pods."""

    @field_validator("zones")
    @classmethod
    def _each_once(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        for zone in zones:
            if zones.count(zone) > 1:
                raise ValueError(f"{zone} is listed twice; list each zone once")
        return zones

    @property
    def api_host(self) -> str:
        """Host of the HTTP API."""
        return f"api.{self.domain}"

    @property
    def ws_host(self) -> str:
        """Host of the WebSocket endpoints."""
        return f"ws.{self.domain}"

    @property
    def grpc_host(self) -> str:
        """Host of the gRPC services."""
        return f"grpc.{self.domain}"

    @property
    def public_hosts(self) -> tuple[str, str, str]:
        """The three public hosts."""
        return (self.api_host, self.ws_host, self.grpc_host)
