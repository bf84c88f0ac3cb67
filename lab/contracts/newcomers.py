"""Workloads of the mesh that are no service of the catalogue: nobody may call them unasked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from components import redis
from components.rate_limit_workload import GRPC_PORT, HTTP_PORT
from components.rate_limit_workload import NAME as RATE_LIMIT
from lab.contracts.access import account, http_port
from lab.contracts.arrangements import applied
from lab.contracts.contract import (
    DENIED,
    NOT_REACHED,
    PLAIN,
    REFUSED,
    Call,
    Caller,
    Contract,
    Expect,
)
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import Reply, Request
from model.access import Catalogue
from model.service import Service

DOCUMENT = "security.md"
NEWCOMER = "newcomer"
_REFUSED_CALL = Expect((200,), headers=(("grpc-status", "7"),))
"""PERMISSION_DENIED, as gRPC says it."""
_SENTENCE = "What no policy allows is denied, for every workload in the mesh."


def contracts(facts: Facts) -> Iterator[Contract]:
    """Of the family `access` what is about no service."""
    yield from _rate_limit(facts)
    yield from _redis(facts)
    yield from _newcomer(facts)


def _rate_limit(facts: Facts) -> Iterator[Contract]:
    """That the gateway does ask it, all contracts about limits show."""
    services = [Caller("identity", account(facts, name)) for name in facts.catalogue.names]
    asked = Request(
        f"pod:{RATE_LIMIT}:{GRPC_PORT}",
        RATE_LIMIT,
        method="POST",
        path="/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        headers=(("content-type", "application/grpc"), ("te", "trailers")),
        http2=True,
        timeout=15.0,
    )
    page = Request(f"pod:{RATE_LIMIT}:{HTTP_PORT}", RATE_LIMIT, path="/healthcheck", timeout=15.0)
    yield Contract(
        "access.rate-limit",
        "The rate-limit service is asked over mutual TLS, by the gateway alone",
        "edge.md",
        (
            # gRPC tells of a refusal in its own way, so it is the status of no service.
            *(Call(caller, asked, _REFUSED_CALL) for caller in services),
            *(Call(caller, page, DENIED) for caller in (*services, _gateway(facts))),
            Call(PLAIN, asked, REFUSED),
            Call(PLAIN, page, REFUSED),
        ),
    )


def _redis(facts: Facts) -> Iterator[Contract]:
    """By its name, through the callers' proxies; and past them, as a pod without one would."""
    spoken = Request(
        redis.address(facts.settings.rate_limits.redis, facts.settings.namespaces),
        redis.NAME, kind="bytes", messages=("PING\r\nQUIT\r\n",), timeout=5.0,
    )  # fmt: skip
    yield Contract(
        "access.redis",
        "no service's proxy knows a way to Redis, and without its password Redis does nothing for"
        " anybody",
        "edge.md",
        (
            *(Call(through(one.name), spoken, REFUSED) for one in facts.catalogue.services),
            # Redis speaks no HTTP, so that its answer has no status either.
            Call(PLAIN, spoken, REFUSED),
        ),
        _asked_for_password,
    )


def _asked_for_password(replies: Sequence[Reply]) -> str | None:
    *services, stranger = (reply.body for reply in replies)
    if any(services):
        return f"a service was answered by Redis: {next(filter(None, services))!r}"
    if not stranger.startswith("-NOAUTH"):
        return f"Redis answered {stranger!r} to somebody without a password"
    return None


def _newcomer(facts: Facts) -> Iterator[Contract]:
    port = http_port(_pattern(facts.catalogue)).number
    callers = tuple(_identities(facts))
    instance = Request(f"pod:{NEWCOMER}:{port}", NEWCOMER, timeout=15.0)
    by_name = Request(f"service:{NEWCOMER}:{port}", f"{NEWCOMER}:{port}", timeout=15.0)
    yield Contract(
        "access.newcomer",
        _SENTENCE,
        DOCUMENT,
        (
            *(Call(caller, instance, DENIED) for caller in callers),
            Call(PLAIN, instance, NOT_REACHED),
            *(Call(through(one.name), by_name, NOT_REACHED) for one in facts.catalogue.services),
        ),
        arrangement=_one_more,
    )


def _identities(facts: Facts) -> Iterator[Caller]:
    """Everybody with a certificate of the mesh: the services, the gateway, the newcomer itself."""
    for name in (*facts.catalogue.names, NEWCOMER):
        yield Caller("identity", account(facts, name))
    yield _gateway(facts)


def _gateway(facts: Facts) -> Caller:
    namespaces, domain = facts.settings.namespaces, facts.settings.control_plane.trust_domain
    return Caller("identity", f"spiffe://{domain}/ns/{namespaces.mesh}/sa/istio-ingressgateway")


def _pattern(catalogue: Catalogue) -> Service:
    return catalogue.services[-1]


@contextlib.contextmanager
def _one_more(data_plane: DataPlane) -> Iterator[None]:
    """A workload in the services' namespace, injected like them, that no policy has heard of."""
    with applied(data_plane, list(_objects(data_plane))):
        yield


def _objects(data_plane: DataPlane) -> Iterator[dict[str, Any]]:
    """What runs in a service's pod, under another name."""
    pattern, namespace = _pattern(data_plane.catalogue), data_plane.settings.namespaces.apps
    found = data_plane.lab.kubectl.get(
        "deployments", f"--namespace={namespace}", f"--selector=app={pattern.name}"
    )["items"]
    template = found[0]["spec"]["template"]
    labels = {"app": NEWCOMER, "version": "v1"}
    metadata = {"name": NEWCOMER, "namespace": namespace, "labels": labels}
    port = http_port(pattern)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": {"app": NEWCOMER},
            "ports": [
                {
                    "name": port.name,
                    "port": port.number,
                    "targetPort": port.number,
                    "appProtocol": port.protocol,
                }
            ],
        },
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {**template["metadata"], "labels": labels},
                "spec": {
                    **template["spec"],
                    "serviceAccountName": NEWCOMER,
                    "serviceAccount": NEWCOMER,
                    "terminationGracePeriodSeconds": 2,
                },
            },
        },
    }
