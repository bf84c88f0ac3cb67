"""The rate-limit service: it answers the gateways whether a request is still within its limits.

It is a workload of the mesh like any other, so the question travels over mutual TLS and only the
gateway may ask it. What it counts is `components/limits.py`, where it counts `components/redis.py`.
Source: https://github.com/envoyproxy/ratelimit
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import yaml

from components import redis
from components.component import ComponentArgs, MeshComponent
from components.edge.routes import gateway_routes
from components.gateway_workload import GATEWAY
from components.istio.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Operation,
    Rule,
    RuleFrom,
    RuleTo,
    Source,
)
from components.istio.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConnectionPoolSettingsHTTPSettings,
    DestinationRule,
    DestinationRuleSpec,
    LoadBalancerSettings,
    OutlierDetection,
    TrafficPolicy,
)
from components.istio.selector import WorkloadSelector
from components.istio.sidecar import (
    IstioEgressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarSpec,
)
from components.istio.sidecar import WorkloadSelector as SidecarSelector
from components.limits import descriptors, limited_routes
from components.objects import Declared, GeneratedSecret, Manifest, labelled, labels
from components.policy_rules import principal
from components.rate_limit_workload import GRPC_PORT, NAME, SELECTOR, workload
from components.wire import ObjectMeta as WireMeta
from model.access import Catalogue
from model.settings import Namespaces, RateLimits, Split

_COMPONENT = "rate-limit"
_QUESTIONS = 4096
"""Questions of one gateway that may wait for an answer at once; they take milliseconds."""


class RateLimitArgs(ComponentArgs):
    """Arguments of `RateLimitService`."""

    namespaces: Namespaces
    trust_domain: str
    rate_limits: RateLimits
    catalogue: Catalogue
    traffic: Mapping[str, Split]
    collector: str
    """Host of the trace collector, to which the service's proxy reports."""


class RateLimitService(MeshComponent[RateLimitArgs]):
    """The rate-limit service, its configuration, and Redis."""

    token = "voicemesh:istio:RateLimitService"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: RateLimitArgs) -> tuple[Declared, ...]:
        """Redis first, since the service does not start without it."""
        return tuple(_declared(args))


def config(args: RateLimitArgs) -> str:
    """The service's configuration file: every limited route of the catalogue with its allowances."""
    routes = gateway_routes(args.catalogue, args.traffic)
    return yaml.safe_dump(descriptors(limited_routes(routes, args.rate_limits)), sort_keys=False)


def _declared(args: RateLimitArgs) -> Iterator[Declared]:
    manifests: list[Manifest] = []
    for item in _redis(args):
        match item:
            case GeneratedSecret():
                yield replace(item, labels=labels(args.stack, _COMPONENT))
            case _:
                manifests.append(item)
    manifests += [_only_the_gateway(args), _destination_rule(args.namespaces.apps), _sidecar(args)]
    manifests += workload(args.namespaces, args.rate_limits, config(args))
    yield from labelled(args.stack, _COMPONENT, manifests)


def _redis(args: RateLimitArgs) -> Iterator[Manifest | GeneratedSecret]:
    if args.rate_limits.redis.mode == "managed":
        yield from redis.managed(args.rate_limits.redis, args.namespaces, client=NAME)
    else:
        yield from redis.external(args.rate_limits.redis, args.namespaces.apps)


def _only_the_gateway(args: RateLimitArgs) -> Manifest:
    gateway = principal(args.trust_domain, args.namespaces.mesh, GATEWAY)
    return AuthorizationPolicy(
        metadata=WireMeta(name=f"{NAME}-gateway", namespace=args.namespaces.apps),
        spec=AuthorizationPolicySpec(
            selector=WorkloadSelector(match_labels=SELECTOR),
            action="ALLOW",
            rules=[
                Rule(
                    from_=[RuleFrom(source=Source(principals=[gateway]))],
                    to=[RuleTo(operation=Operation(ports=[str(GRPC_PORT)]))],
                )
            ],
        ),
    ).manifest()


def _destination_rule(namespace: str) -> Manifest:
    return DestinationRule(
        metadata=WireMeta(name=NAME, namespace=namespace),
        spec=DestinationRuleSpec(
            host=f"{NAME}.{namespace}.svc.cluster.local",
            traffic_policy=TrafficPolicy(
                tls=ClientTLSSettings(mode="ISTIO_MUTUAL"),
                load_balancer=LoadBalancerSettings(simple="LEAST_REQUEST"),
                connection_pool=ConnectionPoolSettings(
                    http=ConnectionPoolSettingsHTTPSettings(http2_max_requests=_QUESTIONS)
                ),
                outlier_detection=OutlierDetection(
                    consecutive_gateway_errors=5,
                    interval="10s",
                    base_ejection_time="30s",
                    # The only instance is never taken out, one of two is.
                    max_ejection_percent=50,
                ),
            ),
        ),
    ).manifest()


def _sidecar(args: RateLimitArgs) -> Manifest:
    """Its proxy hears of Redis and the trace collector, nothing else."""
    hosts = [redis.mesh_host(args.rate_limits.redis, args.namespaces), f"*/{args.collector}"]
    return Sidecar(
        metadata=WireMeta(name=NAME, namespace=args.namespaces.apps),
        spec=SidecarSpec(
            workload_selector=SidecarSelector(labels=SELECTOR),
            egress=[IstioEgressListener(hosts=hosts)],
            outbound_traffic_policy=OutboundTrafficPolicy(mode="REGISTRY_ONLY"),
        ),
    ).manifest()
