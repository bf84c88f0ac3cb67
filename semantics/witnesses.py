"""Values to try in each dimension of a request, taken from the conditions that read it.

For every value that a policy names there is one that fits it, one beside it, and for each
dimension one that nobody names. Values that no condition tells apart are then merged
(`regions.Space`), so few remain, and each stands for all requests like it.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from semantics import strings
from semantics.conditions import Condition, Dimension
from semantics.request import Claim, Token, principal_of

OTHER_NAME = "some-other"
"""Stands for every name that no policy names; also in what is shown to people."""
OTHER_HOST = "some-other.example"
OTHER_DOMAIN = "other.domain"
OTHER_PATH = "/some-other-path"
OTHER_METHOD = "OTHER"
OTHER_VALUE = "some-other-value"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER_METHOD)
SUBJECT = "some-user"
MAX_TOKENS = 192


def candidates(dimension: Dimension, conditions: Iterable[Condition]) -> list[Any]:
    """Values to try in a dimension, without repetition; `peer`, `port`, `token` have their own."""
    values = [value for condition in conditions for value in condition.values]
    return list(dict.fromkeys(_BY_KIND[dimension.kind](values)))


def _hosts(values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield value.replace("*", "some") if value != "*" else OTHER_HOST
    yield OTHER_HOST


def _methods(values: Sequence[str]) -> Iterator[str]:
    yield from METHODS
    for value in values:
        yield value.replace("*", "X") if value != "*" else OTHER_METHOD


def _paths(values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from paths_of(value)
    yield "/"
    yield OTHER_PATH


def paths_of(value: str) -> Iterator[str]:
    """Paths at, below and beside a path pattern of a policy."""
    if strings.is_template(value):
        yield value.replace(strings.MATCH_ANY, "a/b").replace(strings.MATCH_ONE, "a")
        yield value.replace(strings.MATCH_ANY, "").replace(strings.MATCH_ONE, "a")
        yield value.replace(strings.MATCH_ANY, "a").replace(strings.MATCH_ONE, "a/b")
    elif value == "*":
        yield OTHER_PATH
    elif value.startswith("*"):
        yield "/some" + value[1:]
        yield value[1:] if value[1:].startswith("/") else "/" + value[1:]
    elif value.endswith("*"):
        bare = value[:-1]
        yield bare or "/"
        yield bare + ("some" if bare.endswith("/") else "/some")
        yield bare + "some"
        if bare.endswith("/") and len(bare) > 1:
            yield bare[:-1]
    else:
        yield value
        yield value + "/"
        yield value + "/some"


def _addresses(values: Sequence[str]) -> Iterator[str]:
    outside = ["192.0.2.7", "2001:db8::7"]
    for value in values:
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            continue
        yield str(network[1] if network.num_addresses > 1 else network[0])
        outside = [o for o in outside if ipaddress.ip_address(o) not in network] or ["100.64.9.9"]
    yield outside[0]


def _headers(values: Sequence[str]) -> Iterator[str | None]:
    yield None
    for value in values:
        yield value.replace("*", "some") if value != "*" else OTHER_VALUE
    yield OTHER_VALUE


def _server_names(values: Sequence[str]) -> Iterator[str]:
    yield ""
    yield from _hosts(values)


def _metadata(values: Sequence[str]) -> Iterator[Any]:
    yield None
    for value in values:
        yield (value.strip("[]"),) if value.startswith("[") else value.replace("*", "some")


_BY_KIND: dict[str, Callable[[Sequence[str]], Iterable[Any]]] = {
    "host": _hosts,
    "method": _methods,
    "path": _paths,
    "source_ip": _addresses,
    "remote_ip": _addresses,
    "destination_ip": _addresses,
    "header": _headers,
    "sni": _server_names,
    "metadata": _metadata,
}


def peers(
    conditions: Iterable[Condition],
    identities: Iterable[tuple[str, str]],
    trust_domain: str,
) -> list[str | None]:
    """Callers: none, each known identity, each named one, and one nobody names per namespace."""
    found: list[str | None] = [None]
    namespaces = {OTHER_NAME}
    for namespace, account in sorted(identities):
        found.append(principal_of(namespace, account, trust_domain))
        namespaces.add(namespace)
    for condition in conditions:
        for value in condition.values:
            if condition.key in ("principals", "source.principal") and value != "*":
                found.append(strings.SPIFFE + _principal(value, trust_domain))
                if value.startswith("*"):
                    found.append(strings.SPIFFE + _principal(value, OTHER_DOMAIN))
            elif condition.key in ("serviceAccounts", "source.serviceAccount"):
                namespace, slash, account = value.partition("/")
                if slash:
                    found.append(principal_of(namespace, account, trust_domain))
            elif condition.key in ("namespaces", "source.namespace"):
                namespaces.add(value.replace("*", OTHER_NAME))
            elif condition.key in ("trustDomains", "source.trustDomain") and value != "*":
                domain = value.replace("*", "some")
                found.append(principal_of(OTHER_NAME, OTHER_NAME, domain))
    found += [principal_of(ns, OTHER_NAME, trust_domain) for ns in sorted(namespaces)]
    found.append(principal_of(OTHER_NAME, OTHER_NAME, OTHER_DOMAIN))
    return list(dict.fromkeys(found))


def _principal(pattern: str, trust_domain: str) -> str:
    """A whole principal that fits a pattern; what the pattern leaves open nobody is named by."""
    whole = [trust_domain, "ns", OTHER_NAME, "sa", OTHER_NAME]
    if pattern.endswith("*"):
        *parts, last = pattern[:-1].split("/")
        parts = parts[: len(whole)]
        usual = whole[len(parts)] if len(parts) < len(whole) else ""
        filled = usual if usual.startswith(last) else last + OTHER_NAME
        return "/".join([*parts, filled, *whole[len(parts) + 1 :]])
    if pattern.startswith("*"):
        first, *parts = pattern[1:].split("/")
        parts = parts[-len(whole) :]
        place = len(whole) - 1 - len(parts)
        usual = whole[place] if place >= 0 else ""
        filled = usual if usual.endswith(first) else OTHER_NAME + first
        return "/".join([*whole[: max(place, 0)], filled, *parts])
    return pattern


def tokens(conditions: Iterable[Condition], issuers: Iterable[str]) -> list[Token | None]:
    """No token; for each issuer one without and one with each combination of named claims."""
    claims: dict[tuple[str, ...], list[Claim]] = {}
    subjects: set[tuple[str, str]] = set()
    for condition in conditions:
        for value in condition.values:
            text = OTHER_VALUE if value == "*" else value.replace("*", "some")
            if condition.key in ("requestPrincipals", "request.auth.principal"):
                issuer, slash, subject = text.rpartition("/")
                if slash and "*" not in value:
                    subjects.add((issuer, subject))
                continue
            keys = _claim_path(condition.key)
            if keys:
                claims.setdefault(keys, []).append(text)
    known = sorted({*issuers, *(issuer for issuer, _ in subjects)}) or ["https://some-issuer"]
    found: list[Token | None] = [None]
    for issuer in known:
        found.append(Token({"iss": issuer}))
        for subject in [SUBJECT, *sorted(s for i, s in subjects if i == issuer)]:
            found += [
                Token({"iss": issuer, "sub": subject, **extra}) for extra in _claim_sets(claims)
            ]
    return found


def _claim_sets(claims: Mapping[tuple[str, ...], Sequence[Claim]]) -> Iterator[dict[str, Claim]]:
    """Every combination of named values, absence included; past MAX_TOKENS one claim at a time."""
    keys = list(claims)
    options = [
        [None, *dict.fromkeys(value for value in claims[key] if value != OTHER_VALUE), OTHER_VALUE]
        for key in keys
    ]
    size = 1
    for option in options:
        size *= len(option)
    combinations: Iterable[Sequence[Claim]]
    if size <= MAX_TOKENS:
        combinations = itertools.product(*options)
    else:
        # Where a policy refuses what it names, the token that gets through has what none names.
        bases = [[option[place] for option in options] for place in (0, 1, -1)]
        combinations = [*bases]
        for base in bases:
            combinations += [
                [*base[:i], value, *base[i + 1 :]]
                for i, option in enumerate(options)
                for value in option
            ]
    for combination in combinations:
        made: dict[str, Claim] = {}
        for key, value in zip(keys, combination, strict=True):
            if value is not None:
                _put(made, key, value)
        yield made


def _put(claims: dict[str, Claim], keys: Sequence[str], value: Claim) -> None:
    at = claims
    for key in keys[:-1]:
        nested = at.get(key)
        if not isinstance(nested, dict):
            nested = at[key] = {}
        at = nested
    at[keys[-1]] = value


def _claim_path(key: str) -> tuple[str, ...]:
    if key == "request.auth.audiences":
        return ("aud",)
    if key == "request.auth.presenter":
        return ("azp",)
    if key.startswith("request.auth.claims["):
        return tuple(key.removeprefix("request.auth.claims[").removesuffix("]").split("]["))
    return ()
