"""The verdict on one request to one workload, by the objects alone.

Order: mutual TLS, then token, then CUSTOM, DENY and ALLOW policies. Source:
https://istio.io/latest/docs/concepts/security/#implicit-enablement
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from semantics.authentication import (
    JwtRule,
    Mtls,
    MtlsMode,
    RefusedToken,
    authenticate,
    jwt_rules,
    mtls,
)
from semantics.conditions import Policy, compile_policy
from semantics.identity import Object
from semantics.objects import MeshObjects, Workload
from semantics.paths import normalize
from semantics.request import Decision, Outcome, Request

DRY_RUN = "istio.io/dry-run"


@dataclass(frozen=True)
class Guard:
    """Everything that decides on requests to one workload, compiled once."""

    workload: Workload
    objects: MeshObjects

    @cached_property
    def mtls(self) -> Mtls:
        """The effective PeerAuthentication."""
        return mtls(self.objects, self.workload)

    @cached_property
    def jwt_rules(self) -> tuple[JwtRule, ...]:
        """The issuers the workload knows."""
        return jwt_rules(self.objects, self.workload)

    @cached_property
    def applying(self) -> tuple[Object, ...]:
        """The AuthorizationPolicies that are enforced here, dry runs left out."""
        return tuple(
            policy
            for policy in self.objects.applying("AuthorizationPolicy", self.workload)
            if not _dry_run(policy)
        )

    @cached_property
    def http_policies(self) -> tuple[Policy, ...]:
        """The policies as an HTTP port enforces them."""
        return tuple(compile_policy(p, self.objects.mesh) for p in self.applying)

    @cached_property
    def tcp_policies(self) -> tuple[Policy, ...]:
        """The policies as a TCP port enforces them."""
        return tuple(compile_policy(p, self.objects.mesh, http=False) for p in self.applying)

    @cached_property
    def fingerprint(self) -> tuple[Any, ...]:
        """Equal for two guards that decide alike on everything."""
        return (
            repr([(p["metadata"].get("name"), p.get("spec")) for p in self.applying]),
            self.mtls.mode,
            sorted(self.mtls.ports.items()),
            self.jwt_rules,
            sorted(self.workload.ports.items()),
            self.workload.gateway,
            self.workload.proxied,
            self.objects.mesh,
        )

    def policies(self, *, http: bool) -> tuple[Policy, ...]:
        """The policies of a port's protocol."""
        return self.http_policies if http else self.tcp_policies

    def decide(self, request: Request) -> Decision:
        """What happens to the request, and who decides it."""
        if not self.workload.proxied:
            return Decision(Outcome.ALLOW, f"{self.workload} has no proxy: nothing is enforced", 0)
        seen = self._connected(request)
        if isinstance(seen, Decision):
            return seen
        seen = replace(seen, path=normalize(seen.path, self.objects.mesh.path_normalization))
        policies = self.policies(http=request.http)
        # External authorization runs before tokens are read, so its rules see none.
        asked = self._custom(policies, replace(seen, token=None))
        if asked is not None and asked.outcome is Outcome.DENY:
            return asked
        if request.http:
            try:
                seen = authenticate(seen, self.jwt_rules)
            except RefusedToken as refusal:
                return Decision(Outcome.DENY, f"RequestAuthentication: {refusal}", refusal.status)
        verdict = local_verdict(policies, seen)
        return asked if asked is not None and verdict.allowed else verdict

    def _connected(self, request: Request) -> Request | Decision:
        """The request with the identity that the connection proves, or the connection's refusal."""
        if self.workload.gateway:
            return request
        mode = self.mtls.of(request.port)
        if mode is MtlsMode.STRICT and request.peer is None:
            return Decision(Outcome.DENY, "PeerAuthentication: STRICT refuses plaintext", 0)
        if mode is MtlsMode.DISABLE:
            return replace(request, peer=None)
        return request

    def _custom(self, policies: tuple[Policy, ...], request: Request) -> Decision | None:
        known = self.objects.mesh.authorizers
        matching = None
        for policy in policies:
            if policy.action != "CUSTOM":
                continue
            rule = next((r for r in policy.rules if r.matches(request)), None)
            if rule is None:
                continue
            if known is not None and policy.provider not in known:
                return Decision(
                    Outcome.DENY, f"{rule.name}: no external authorizer {policy.provider!r}"
                )
            matching = matching or Decision(Outcome.CUSTOM, rule.name)
        return matching


def local_verdict(policies: tuple[Policy, ...], request: Request) -> Decision:
    """DENY before ALLOW; ALLOW policies are ORed; with none of them, everything is let in."""
    allowing = [policy for policy in policies if policy.action == "ALLOW"]
    for policy in policies:
        if policy.action == "DENY":
            for rule in policy.rules:
                if rule.matches(request):
                    return Decision(Outcome.DENY, rule.name)
    if not allowing:
        return Decision(Outcome.ALLOW, "no ALLOW policy applies", 200)
    for policy in allowing:
        for rule in policy.rules:
            if rule.matches(request):
                return Decision(Outcome.ALLOW, rule.name, 200)
    return Decision(Outcome.DENY, "no ALLOW policy matches")


def decide(objects: MeshObjects, workload: Workload, request: Request) -> Decision:
    """What happens to one request; for many requests to one workload keep a `Guard`."""
    return Guard(workload, objects).decide(request)


def _dry_run(policy: Object) -> bool:
    annotations = (policy.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(DRY_RUN, "")).lower() in ("1", "t", "true")
