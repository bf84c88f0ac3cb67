"""How a value written in an AuthorizationPolicy matches a string of the request.

One function per kind of Envoy matcher that Istio makes out of a policy's values. Each takes the
value as written and returns a test, so that a policy is compiled once and asked many times.
Source: https://istio.io/latest/docs/reference/config/security/authorization-policy/ and, where
the page is silent, istiod's own translation (pilot/pkg/security/authz).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

StringTest = Callable[[str], bool]
"""Whether a string that is present matches."""
OptionalStringTest = Callable[[str | None], bool]
"""Whether a string that may be absent (None) matches."""

SPIFFE = "spiffe://"

# What Envoy's URI template matcher lets a `*` stand for: pchar without `*` and `=`.
_TEMPLATE_LITERAL = r"a-zA-Z0-9\-._~%!$&'()+,;:@"
MATCH_ONE = "{*}"
MATCH_ANY = "{**}"


class InvalidValue(ValueError):
    """A value that istiod can't translate: an ALLOW rule with it is dropped, a DENY ignores it."""


@lru_cache(maxsize=4096)
def simple(value: str) -> StringTest:
    """Exact, `prefix*`, `*suffix` or `*` (any but the empty string); case matters."""
    if value == "*":
        return bool
    if value.startswith("*"):
        suffix = value[1:]
        return lambda text: text.endswith(suffix)
    if value.endswith("*"):
        prefix = value[:-1]
        return lambda text: text.startswith(prefix)
    return lambda text: text == value


@lru_cache(maxsize=4096)
def header(value: str) -> OptionalStringTest:
    """A header's value: like `simple`, but `*` also accepts an empty one and absence never fits."""
    if value == "*":
        return lambda text: text is not None
    fits = simple(value)
    return lambda text: text is not None and fits(text)


@lru_cache(maxsize=4096)
def host(value: str) -> StringTest:
    """The authority of the request, port included where the client sent one; case is ignored."""
    if value == "*":
        return lambda _: True
    fits = simple(value.lower())
    return lambda text: fits(text.lower())


@lru_cache(maxsize=4096)
def path(value: str) -> StringTest:
    """A path without its query: `simple`, or a template with `{*}` (one segment) or `{**}`."""
    fits = template(value) if is_template(value) else simple(value)
    return lambda text: fits(text.partition("?")[0].partition("#")[0])


def is_template(value: str) -> bool:
    """Whether the path is read as a URI template and not as a simple match."""
    return MATCH_ONE in value or MATCH_ANY in value


def template(value: str) -> StringTest:
    """`{*}` stands for one non-empty segment, `{**}` for any number of them, also none."""
    pattern = (
        re.escape(value)
        .replace(re.escape(MATCH_ANY), f"[{_TEMPLATE_LITERAL}/]*")
        .replace(re.escape(MATCH_ONE), f"[{_TEMPLATE_LITERAL}]+")
    )
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def principal(value: str) -> StringTest:
    """A peer's identity, written without `spiffe://`."""
    if value == "*":
        return bool
    if value.startswith("*"):
        suffix = value[1:]
        return lambda uri: uri.startswith(SPIFFE) and uri[len(SPIFFE) :].endswith(suffix)
    return simple(SPIFFE + value)


@lru_cache(maxsize=4096)
def namespace(value: str) -> StringTest:
    """The namespace in a peer's identity; here a `*` may stand anywhere and crosses slashes."""
    inner = ".*".join(re.escape(part) for part in value.split("*"))
    compiled = re.compile(f".*/ns/{inner}/.*")
    return lambda uri: compiled.fullmatch(uri) is not None


@lru_cache(maxsize=4096)
def service_account(value: str, default_namespace: str) -> StringTest:
    """`name` (in the policy's own namespace) or `namespace/name`; no wildcard."""
    ns, slash, name = value.partition("/")
    if not slash:
        ns, name = default_namespace, value
    compiled = re.compile(f"spiffe://.+/ns/{re.escape(ns)}/(.+/|)sa/{re.escape(name)}(/.+)?")
    return lambda uri: compiled.fullmatch(uri) is not None


@lru_cache(maxsize=4096)
def trust_domain(value: str) -> StringTest:
    """The trust domain of a peer's identity: exact, `prefix*`, `*suffix` or `*`."""
    if value == "*":
        return lambda uri: uri.startswith(SPIFFE)
    if "*" not in value:
        return lambda uri: uri.startswith(f"{SPIFFE}{value}/")
    before, after = value.split("*", 1)
    compiled = re.compile(f"spiffe://{re.escape(before)}[^/]*{re.escape(after)}/.*")
    return lambda uri: compiled.fullmatch(uri) is not None


@lru_cache(maxsize=4096)
def ip_block(value: str) -> StringTest:
    """An address or a CIDR range.

    Raises:
        InvalidValue: neither an address nor a range.
    """
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise InvalidValue(f"{value!r} is no IP address and no CIDR range") from error
    return lambda text: bool(text) and ipaddress.ip_address(text) in network


@lru_cache(maxsize=4096)
def port(value: str) -> Callable[[int], bool]:
    """A port number, written as text.

    Raises:
        InvalidValue: not a number from 0 to 65535.
    """
    if not re.fullmatch(r"[0-9]+", value) or int(value) > 65535:
        raise InvalidValue(f"{value!r} is no port (0 to 65535)")
    number = int(value)
    return lambda asked: asked == number


@lru_cache(maxsize=4096)
def request_principal(value: str) -> Callable[[str | None, str | None], bool]:
    """A token's `issuer/subject`. Both have to be there: `*` does not fit a token without `sub`."""
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        issuer, subject = value, ""
    issuer_fits, subject_fits = _request_principal_parts(value, bool(slash), issuer, subject)
    return lambda iss, sub: (
        iss is not None and sub is not None and issuer_fits(iss) and subject_fits(sub)
    )


def _request_principal_parts(
    value: str, has_slash: bool, issuer: str, subject: str
) -> tuple[StringTest, StringTest]:
    """The tests of issuer and subject: the subject begins after the last slash."""
    if value == "*":
        return bool, bool
    if value.startswith("*"):
        if not has_slash:
            return bool, simple(value)
        return (bool if issuer == "*" else simple("*" + issuer[1:])), exact(subject)
    if value.endswith("*"):
        if not has_slash:
            return simple(value), bool
        return exact(issuer), simple(subject)
    return exact(issuer), exact(subject)


def exact(value: str) -> StringTest:
    """Equality, also where the value holds a `*`."""
    return lambda text: text == value
