"""Who is who: mutual TLS between workloads, tokens of clients.

Source: https://istio.io/latest/docs/concepts/security/#authentication
"""

from __future__ import annotations

from components.component import ComponentArgs, MeshComponent
from components.gateway_workload import GATEWAY_SELECTOR
from components.istio.peer_authentication import (
    MutualTLS,
    PeerAuthentication,
    PeerAuthenticationSpec,
)
from components.istio.request_authentication import (
    ClaimToHeader,
    JWTRule,
    RequestAuthentication,
    RequestAuthenticationSpec,
)
from components.istio.selector import WorkloadSelector
from components.objects import Manifest, labelled
from components.wire import ObjectMeta
from model.settings import Authentication, Namespaces


class AuthenticationArgs(ComponentArgs):
    """Arguments of `Authentications`."""

    namespaces: Namespaces
    authentication: Authentication


class Authentications(MeshComponent[AuthenticationArgs]):
    """STRICT mutual TLS for mesh and namespaces; the token issuers at the gateway and services."""

    token = "voicemesh:istio:Authentications"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: AuthenticationArgs) -> tuple[Manifest, ...]:
        """PeerAuthentications and RequestAuthentications of the stack."""
        namespaces = args.namespaces
        return labelled(
            args.stack,
            "authentication",
            [
                # In the root namespace it holds for every namespace that has none of its own.
                _strict(namespaces.mesh),
                _strict(namespaces.apps),
                _tokens(args, "gateway-tokens", namespaces.mesh, GATEWAY_SELECTOR),
                _tokens(args, "service-tokens", namespaces.apps, None),
            ],
        )


def _strict(namespace: str) -> Manifest:
    return PeerAuthentication(
        metadata=ObjectMeta(name="default", namespace=namespace),
        spec=PeerAuthenticationSpec(mtls=MutualTLS(mode="STRICT")),
    ).manifest()


def _tokens(
    args: AuthenticationArgs, name: str, namespace: str, selector: dict[str, str] | None
) -> Manifest:
    """One issuer list for all: a token that is bad is refused with 401 wherever it shows up.

    A request without a token passes here; that one is needed is said by authorization.
    """
    authentication = args.authentication
    handed_on = (authentication.tenant, authentication.user, authentication.role)
    return RequestAuthentication(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=RequestAuthenticationSpec(
            selector=WorkloadSelector(match_labels=selector) if selector else None,
            jwt_rules=[
                JWTRule(
                    issuer=issuer.issuer,
                    jwks_uri=issuer.jwks_uri,
                    audiences=list(issuer.audiences),
                    # The service's own proxy verifies the token again, and sets the headers from it.
                    forward_original_token=True,
                    output_claim_to_headers=[
                        ClaimToHeader(header=claim.header, claim=claim.claim) for claim in handed_on
                    ],
                )
                for issuer in authentication.issuers
            ],
        ),
    ).manifest()
