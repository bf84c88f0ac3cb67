"""Who may do what: AuthorizationPolicies derived from the catalogue, on top of deny by default.

ALLOW policies of one workload are ORed, so none here is broader than one caller group: the
callers by service account, the gateway by route. What must hold for all of them (roles, tenant,
addresses) is a DENY, which no ALLOW can undo.
Source: https://istio.io/latest/docs/concepts/security/#implicit-enablement
"""

from __future__ import annotations

from components.component import MeshComponent
from components.gateway_policies import gateway_policies
from components.istio.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
)
from components.objects import Manifest, labelled
from components.policy_rules import (
    AuthorizationArgs,
)
from components.service_policies import service_policies
from components.wire import ObjectMeta


class Authorizations(MeshComponent[AuthorizationArgs]):
    """All AuthorizationPolicies of the stack."""

    token = "voicemesh:istio:Authorizations"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: AuthorizationArgs) -> tuple[Manifest, ...]:
        """Deny by default, then the gateway's policies, then each service's."""
        policies = [_deny_all(args), *gateway_policies(args)]
        for service in args.catalogue.services:
            policies += service_policies(args, service)
        return labelled(args.stack, "authorization", policies)


def _deny_all(args: AuthorizationArgs) -> Manifest:
    # An ALLOW policy without rules matches nothing; in the root namespace it covers the mesh.
    return AuthorizationPolicy(
        metadata=ObjectMeta(name="deny-all", namespace=args.namespaces.mesh),
        spec=AuthorizationPolicySpec(),
    ).manifest()
