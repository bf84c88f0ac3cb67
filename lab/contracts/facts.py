"""What contracts are made from: the stack's settings and catalogue, tokens, and shapes of requests."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from joserfc.jwk import RSAKey

from lab.contracts.contract import GATEWAY
from lab.data_plane import DataPlane
from lab.exchange import Request, Tls
from lab.tokens import Issuers, sign
from model.access import Catalogue, Exposure
from model.service import Route
from model.settings import Settings

_ECHO_WEBSOCKET = ("testwebsocket", "enabled")
"""Tells the echo server to take the upgrade; proxies pay no attention to it."""
TENANT, USER = "tenant-a", "user-1"


@dataclass(frozen=True)
class Facts:
    """The stack under test, seen by its clients."""

    stack: str
    settings: Settings
    catalogue: Catalogue
    issuers: Issuers
    ca: str
    """File with the CA of the public certificate."""
    signed: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Tokens made so far: a thousand calls carry the same few, and each costs a signature."""
    run: int = field(default_factory=lambda: secrets.randbelow(2**14))
    """Sets the clients of this run apart from those of the last one, whose limits are used up."""

    def readable(self) -> list[Exposure]:
        """Every route that clients can read with a token of any role."""
        return readable(self.catalogue)

    @classmethod
    def of(cls, data_plane: DataPlane) -> Facts:
        """Those of the stack that a lab was made for."""
        return cls(
            data_plane.stack,
            data_plane.settings,
            data_plane.catalogue,
            data_plane.issuers,
            str(data_plane.certificate.ca),
        )

    def token(
        self,
        issuer: int = 0,
        key: RSAKey | None = None,
        lifetime: float = 3600,
        **claims: Any,
    ) -> str:
        """A token of a listed issuer with everything a user needs; claims None are left out."""
        declared = self.settings.authentication.issuers[issuer]
        names = self.settings.authentication
        complete: Mapping[str, Any] = {
            "iss": declared.issuer,
            "aud": declared.audiences[0],
            "sub": USER,
            names.tenant.claim: TENANT,
            names.user.claim: USER,
            names.role.claim: "user",
            **claims,
        }
        if key:
            return sign(key, complete, lifetime=lifetime)
        what = f"{issuer} {lifetime} {complete}"
        if what not in self.signed:
            self.signed[what] = sign(self.issuers.key(issuer), complete, lifetime=lifetime)
        return self.signed[what]

    def client(self, number: int) -> str:
        """An address that no other run's clients have, of carriers' networks (RFC 6598)."""
        return f"100.{64 + self.run % 64}.{self.run // 64 % 256}.{number}"

    def flooding(self, number: int, neighbour: int = 0) -> str:
        """The address of a client that asks too much, or of a neighbour in its network of four."""
        return self.client(128 + 4 * number + neighbour)

    def many_clients(self, index: int) -> str:
        """The address of one of many clients, of whom none asks so much that a limit is met."""
        return f"198.51.100.{index % 250 + 1}"

    def client6(self, network: int, number: int) -> str:
        """The same of IPv6: client `number` in a network of 64 bits."""
        return f"2001:db8:{self.run:x}:{network:x}::{number:x}"

    def bearer(self, **claims: Any) -> tuple[tuple[str, str], ...]:
        """The Authorization header with a token."""
        return (("authorization", f"Bearer {self.token(**claims)}"),)

    def tls(self, host: str) -> Tls:
        """TLS as an ordinary client speaks it."""
        return Tls(server_name=host, ca=self.ca)

    def api(
        self, path: str, *headers: tuple[str, str], method: str = "GET", **more: Any
    ) -> Request:
        """A request to the API host."""
        host = self.settings.api_host
        return Request(
            address=f"{GATEWAY}:443", authority=host, method=method, path=path,
            headers=tuple(headers), tls=self.tls(host), **more,
        )  # fmt: skip

    def grpc(self, path: str, *headers: tuple[str, str], **more: Any) -> Request:
        """A call to the gRPC host."""
        host = self.settings.grpc_host
        return Request(
            address=f"{GATEWAY}:443", authority=host, path=path, kind="grpc",
            headers=tuple(headers), tls=self.tls(host), **more,
        )  # fmt: skip

    def websocket(self, path: str, *headers: tuple[str, str], **more: Any) -> Request:
        """An upgrade on the WebSocket host, with one message."""
        host = self.settings.ws_host
        request = Request(
            address=f"{GATEWAY}:443", authority=host, path=path, kind="websocket",
            headers=(_ECHO_WEBSOCKET, *headers), tls=self.tls(host), messages=("hello",),
        )  # fmt: skip
        return replace(request, **more)


def served(route: Route, method: str) -> bool:
    """Whether a route serves a method without asking for a role."""
    return method in (route.methods or (method,)) and not any(
        method in (rule.methods or (method,)) for rule in route.restricted
    )


def readable(catalogue: Catalogue) -> list[Exposure]:
    """Every route that clients can read with a token of any role, and not without."""
    return [
        exposure
        for exposure in catalogue.exposures
        if exposure.route.access == "token" and served(exposure.route, "GET")
    ]
