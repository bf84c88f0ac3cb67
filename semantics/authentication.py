"""Who the proxy takes the caller for: mutual TLS by PeerAuthentication, tokens by jwtRules."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from model.invalid import InvalidInput
from semantics.identity import Object, name_of, namespace_of
from semantics.objects import MeshObjects, Workload
from semantics.request import AUTHORIZATION, Request, Token

UNSET = "UNSET"
"""The mode that takes the next wider scope's."""


class MtlsMode(StrEnum):
    """The effective mode of one port."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True)
class Mtls:
    """What PeerAuthentication says of a workload."""

    mode: MtlsMode
    ports: Mapping[int, MtlsMode]

    def of(self, port: int) -> MtlsMode:
        """The mode of a port."""
        return self.ports.get(port, self.mode)


def mtls(objects: MeshObjects, workload: Workload) -> Mtls:
    """The merged PeerAuthentication: workload before namespace before mesh, UNSET inherits.

    Of several in one scope Istio takes the oldest; in objects not yet applied that is the one
    with the smaller creationTimestamp, or else the first.
    """
    root = objects.mesh.root_namespace
    scopes: dict[str, Object] = {}
    for policy in objects.applying("PeerAuthentication", workload):
        selects = bool(((policy.get("spec") or {}).get("selector") or {}).get("matchLabels"))
        if namespace_of(policy) == root:
            if selects:
                continue  # Istio ignores a selector in the root namespace
            scope = "mesh"
        else:
            scope = "workload" if selects else "namespace"
        if scope not in scopes or _created(policy) < _created(scopes[scope]):
            scopes[scope] = policy
    mode = MtlsMode.PERMISSIVE
    for scope in ("mesh", "namespace", "workload"):
        policy = scopes.get(scope, {})
        mode = _mode(policy, "spec.mtls", (policy.get("spec") or {}).get("mtls"), mode)
    policy = scopes.get("workload", {})
    by_port = (policy.get("spec") or {}).get("portLevelMtls") or {}
    return Mtls(
        mode,
        {
            _port(policy, port): _mode(policy, f"spec.portLevelMtls.{port}", setting, mode)
            for port, setting in by_port.items()
        },
    )


def _mode(
    policy: Object, field: str, setting: Mapping[str, Any] | None, inherited: MtlsMode
) -> MtlsMode:
    value = (setting or {}).get("mode") or UNSET
    if value == UNSET:
        return inherited
    if value not in MtlsMode.__members__:
        raise InvalidInput(
            f"{_named(policy)}: {field}.mode is {value!r}, Istio knows"
            f" {', '.join((UNSET, *MtlsMode))}"
        )
    return MtlsMode(value)


def _port(policy: Object, key: Any) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"{_named(policy)}: spec.portLevelMtls has the key {key!r}, a port's number is meant"
        ) from None


def _named(policy: Object) -> str:
    return f"PeerAuthentication {namespace_of(policy)}/{name_of(policy)}"


def _created(policy: Object) -> str:
    return str((policy.get("metadata") or {}).get("creationTimestamp") or "9999")


@dataclass(frozen=True)
class JwtRule:
    """One issuer that a workload knows."""

    issuer: str
    audiences: frozenset[str]
    headers: frozenset[str]
    """Where a token of this issuer is looked for: headers, `?PARAMETER`, `cookie NAME`."""
    claim_headers: tuple[tuple[str, str], ...]
    """(claim, header) pairs of outputClaimToHeaders."""
    forwarded: bool
    """Whether the token goes on to the application, and so to the next hop."""

    def accepts(self, token: Token) -> bool:
        """Whether the token is good under this rule."""
        return (
            token.valid
            and token.timely
            and token.header in self.headers
            and (not self.issuer or token.issuer == self.issuer)
            and (not self.audiences or bool(self.audiences & set(token.audiences)))
        )


def jwt_rules(objects: MeshObjects, workload: Workload) -> tuple[JwtRule, ...]:
    """All rules of all RequestAuthentications that apply to the workload, by issuer."""
    return tuple(
        sorted(
            (
                _jwt_rule(rule)
                for policy in objects.applying("RequestAuthentication", workload)
                for rule in (policy.get("spec") or {}).get("jwtRules") or ()
            ),
            key=lambda rule: rule.issuer,
        )
    )


def _jwt_rule(rule: Mapping[str, Any]) -> JwtRule:
    named = {str(h["name"]).lower() for h in rule.get("fromHeaders") or ()}
    named |= {f"?{name}" for name in rule.get("fromParams") or ()}
    named |= {f"cookie {name}" for name in rule.get("fromCookies") or ()}
    return JwtRule(
        issuer=str(rule.get("issuer", "")),
        audiences=frozenset(rule.get("audiences") or ()),
        headers=frozenset(named or {AUTHORIZATION}),
        claim_headers=tuple(
            (str(entry["claim"]), str(entry["header"]).lower())
            for entry in rule.get("outputClaimToHeaders") or ()
        ),
        forwarded=bool(rule.get("forwardOriginalToken", False)),
    )


class RefusedToken(Exception):
    """The token is not accepted; `status` is what the client sees (401, or 403 by audience)."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def authenticate(request: Request, rules: Iterable[JwtRule]) -> Request:
    """The request as policies see it: with a verified token or none, claim headers rewritten.

    A request without a token passes. A CORS preflight passes unread. Headers that a rule fills
    from claims are removed when a client sends them itself.

    Raises:
        RefusedToken: there is a token where a rule looks for one, and no rule accepts it.
    """
    rules = tuple(rules)
    if not rules or request.preflight:
        return replace(request, token=None)
    headers = {name.lower(): value for name, value in request.headers.items()}
    for rule in rules:
        for _, header in rule.claim_headers:
            headers.pop(header, None)
    token = request.token
    if token is None or not any(token.header in rule.headers for rule in rules):
        return replace(request, token=None, headers=headers)
    accepting = next((rule for rule in rules if rule.accepts(token)), None)
    if accepting is None:
        raise _refusal(token, rules)
    for claim, header in accepting.claim_headers:
        value = _header_value(token, claim)
        if value is not None:
            headers[header] = value
    return replace(request, headers=headers)


def _refusal(token: Token, rules: Iterable[JwtRule]) -> RefusedToken:
    """The first check that fails, in the proxy's order: issuer, time, audience, signature."""
    of_issuer = [rule for rule in rules if rule.issuer in ("", token.issuer)]
    if not of_issuer:
        return RefusedToken(f"no rule knows the token's issuer {token.issuer!r}", 401)
    if not token.timely:
        return RefusedToken("the token is expired or not yet valid", 401)
    if not any(not r.audiences or r.audiences & set(token.audiences) for r in of_issuer):
        return RefusedToken("the token is for another audience", 403)
    return RefusedToken("the token is not signed by its issuer", 401)


def _header_value(token: Token, claim: str) -> str | None:
    """A claim as header text: numbers and truth values as JSON, lists and objects in base64."""
    value: Any = token.claims
    for key in claim.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    if isinstance(value, str):
        return value
    text = json.dumps(value, separators=(",", ":"))
    if isinstance(value, bool | int | float):
        return text
    return base64.b64encode(text.encode()).decode()
