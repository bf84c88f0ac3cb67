"""A request as the proxy of the called workload sees it, and the words of a verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Claim = Any
"""A claim's value as JSON: text, number, truth value, list or object."""


AUTHORIZATION = "authorization"
"""`Authorization: Bearer`, where a token is looked for if a rule says nothing else."""


@dataclass(frozen=True)
class Token:
    """A JWT that came with the request."""

    claims: Mapping[str, Claim]
    valid: bool = True
    """False: signed by a key that the issuer does not publish, or not signed."""
    timely: bool = True
    """False: expired or not yet valid."""
    header: str = AUTHORIZATION
    """The header that carries it; `?NAME` is a query parameter, `cookie NAME` a cookie."""

    @property
    def issuer(self) -> str | None:
        """The `iss` claim, None where it is missing or no text."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None

    @property
    def audiences(self) -> tuple[str, ...]:
        """The `aud` claim as a tuple, whichever of its two forms it has."""
        audience = self.claims.get("aud")
        if isinstance(audience, str):
            return (audience,)
        return tuple(audience) if isinstance(audience, list | tuple) else ()


@dataclass(frozen=True)
class Request:
    """One request, after the mesh's path normalization is *not yet* applied."""

    peer: str | None = None
    """Identity of the caller as its certificate says it (`spiffe://...`); None is plaintext."""
    source_ip: str = "10.0.0.1"
    """Address of the packet's sender."""
    remote_ip: str = ""
    """Address of the client as X-Forwarded-For or PROXY protocol tell it; empty: `source_ip`."""
    destination_ip: str = "10.0.0.2"
    port: int = 8080
    """The port of the workload (a Service's targetPort), not the Service's."""
    sni: str = ""
    host: str = "service"
    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers; names in small letters."""
    token: Token | None = None
    metadata: Mapping[str, Mapping[str, Claim]] = field(default_factory=dict)
    """Dynamic metadata by filter name, for `experimental.envoy.filters.*` conditions."""
    http: bool = True
    """False: raw TCP, where no HTTP field exists."""

    @property
    def client_ip(self) -> str:
        """What `remoteIpBlocks` compares."""
        return self.remote_ip or self.source_ip

    @property
    def preflight(self) -> bool:
        """Whether it is a CORS preflight, which passes RequestAuthentication unread."""
        names = {name.lower() for name in self.headers}
        return (
            self.method == "OPTIONS"
            and "origin" in names
            and "access-control-request-method" in names
        )


class Outcome(StrEnum):
    """What happens to a request."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    CUSTOM = "CUSTOM"
    """An external authorizer is asked; only if it agrees do DENY and ALLOW policies count."""


@dataclass(frozen=True)
class Decision:
    """The verdict and who spoke it."""

    outcome: Outcome
    by: str
    """The deciding object (`AuthorizationPolicy namespace/name rule 0`), or a sentence."""
    status: int = 403
    """What an HTTP client sees of a refusal: 401 or 403, 0 for a connection that is cut."""

    @property
    def allowed(self) -> bool:
        """True for ALLOW only."""
        return self.outcome is Outcome.ALLOW


def principal_of(namespace: str, service_account: str, trust_domain: str = "cluster.local") -> str:
    """The identity that Istio gives to pods of a service account."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
