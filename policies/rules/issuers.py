"""Issuers of tokens: whose keys count, where they come from, where a token is read."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from policies.mesh_config import RELEASE_KINDS, chart_of, release_values
from policies.policy import (
    Config,
    Finding,
    Object,
    Setting,
    Severity,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.stack import Stack

_REQUEST_AUTHENTICATION = (
    "https://istio.io/latest/docs/reference/config/security/request_authentication/"
)
_BLOCKED_CIDRS = "BLOCKED_CIDRS_IN_JWKS_URIS"


@object_policy(
    "issuer-keys-safe",
    "RequestAuthentication",
    title="Keys of issuers come from a source that can't be forged",
    severity=Severity.CRITICAL,
    text="jwksUri is https, or http to a Service inside the cluster, and is given rather than "
    "discovered. Whoever can change the keys on their way signs tokens for everybody.",
    remedy="Set jwksUri to the issuer's https address.",
    url=_REQUEST_AUTHENTICATION + "#JWTRule",
    settings={
        "hosts": Setting("array", [], "Hosts that keys may come from; empty allows every host.")
    },
)
def issuer_keys_safe(item: Object, config: Config) -> Iterator[Finding]:
    """Looks at the address of each rule's keys."""
    for index, rule in enumerate(spec_of(item).get("jwtRules") or ()):
        path = f"spec.jwtRules[{index}]"
        uri = urlsplit(str(rule.get("jwksUri", "")))
        host = uri.hostname or ""
        inside = host.endswith((".svc", ".svc.cluster.local"))
        if rule.get("jwks"):
            yield Finding(item, f"{path}.jwks", "keys written down here are never rotated")
        elif not rule.get("jwksUri"):
            yield Finding(item, f"{path}.jwksUri", "it is left to discovery where keys come from")
        elif uri.scheme != "https" and not inside:
            yield Finding(item, f"{path}.jwksUri", f"{uri.scheme or 'no'} scheme to {host or '?'}")
        elif config["hosts"] and host not in config["hosts"]:
            yield Finding(item, f"{path}.jwksUri", f"{host} is not one of the allowed hosts")


@stack_policy(
    "issuer-fetch-restricted",
    title="istiod fetches no keys from inside addresses",
    severity=Severity.MEDIUM,
    codes=("IST0175",),
    text="Where RequestAuthentications have istiod fetch keys, istiod runs with "
    "BLOCKED_CIDRS_IN_JWKS_URIS. Otherwise whoever may write a jwksUri makes it call the cloud's "
    "metadata service or anything else that only istiod can reach.",
    remedy="Set env.BLOCKED_CIDRS_IN_JWKS_URIS in the values of istiod's chart.",
    url="https://istio.io/latest/docs/reference/config/analysis/ist0175/",
)
def issuer_fetch_restricted(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at the environment of istiod, in its Deployment or in its chart's values."""
    fetches = any(
        rule.get("jwksUri")
        for item in stack.of("RequestAuthentication")
        for rule in spec_of(item).get("jwtRules") or ()
    )
    if not fetches:
        return
    message = f"{_BLOCKED_CIDRS} is not set"
    for release in stack.of(*RELEASE_KINDS):
        values = release_values(release)  # the chart takes them with and without `pilot`
        environment = values.get("env") or (values.get("pilot") or {}).get("env") or {}
        if chart_of(release) == "istiod" and not environment.get(_BLOCKED_CIDRS):
            yield Finding(release, f"spec.values.env.{_BLOCKED_CIDRS}", message)
    for item in stack.of("Deployment"):
        template = spec_of(item).get("template") or {}
        if ((template.get("metadata") or {}).get("labels") or {}).get("app") != "istiod":
            continue
        containers = (template.get("spec") or {}).get("containers") or ()
        names = {e.get("name") for c in containers for e in c.get("env") or () if e.get("value")}
        if _BLOCKED_CIDRS not in names:
            yield Finding(item, "spec.template.spec.containers[0].env", message)


@object_policy(
    "token-audience",
    "RequestAuthentication",
    title="Tokens are meant for this platform",
    severity=Severity.HIGH,
    text="Each issuer's rule lists audiences. Without them a token that the issuer made for "
    "another application is good here.",
    remedy="List the audiences that clients of this platform get.",
    url=_REQUEST_AUTHENTICATION + "#JWTRule",
)
def token_audience(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each rule."""
    for index, rule in enumerate(spec_of(item).get("jwtRules") or ()):
        if not rule.get("audiences"):
            path = f"spec.jwtRules[{index}].audiences"
            yield Finding(item, path, f"tokens of {rule.get('issuer')} for any audience are taken")


@object_policy(
    "token-not-in-address",
    "RequestAuthentication",
    title="Tokens are not part of an address",
    severity=Severity.MEDIUM,
    text="No issuer's rule reads tokens from parameters. What stands in an address is in the "
    "history of browsers, in the logs of every proxy on the way and in the Referer header.",
    remedy="Send the token in a header or, from browsers' WebSockets, in a subprotocol or cookie.",
    url=_REQUEST_AUTHENTICATION + "#JWTRule",
)
def token_not_in_address(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each rule."""
    for index, rule in enumerate(spec_of(item).get("jwtRules") or ()):
        if names := [str(name) for name in rule.get("fromParams") or ()]:
            path = f"spec.jwtRules[{index}].fromParams"
            yield Finding(item, path, f"tokens are read from {', '.join(names)}")
