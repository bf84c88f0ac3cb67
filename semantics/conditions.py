"""AuthorizationPolicy rules as conditions, each on one dimension of the request.

A rule is compiled once. Every condition reads a single dimension (the peer, the path, one header,
the token …), so that the same conditions answer for one request and, in `regions`, for whole
classes of requests at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from semantics import strings
from semantics.identity import Object, name_of, namespace_of
from semantics.mesh import Mesh
from semantics.request import Claim, Request, Token

HTTP_ONLY = frozenset({"host", "method", "path", "token", "header"})


class InvalidRule(ValueError):
    """A rule that istiod leaves out as a whole, whatever the action: an unknown `when` key."""


@dataclass(frozen=True)
class Dimension:
    """What of a request a condition reads: `peer`, `path`, or one named header or metadata key."""

    kind: str
    name: str = ""

    def of(self, request: Request) -> Any:
        """The request's value in this dimension."""
        if self.kind == "header":
            return {k.lower(): v for k, v in request.headers.items()}.get(self.name)
        if self.kind == "metadata":
            filter_name, _, key = self.name.partition("[")
            return request.metadata.get(filter_name, {}).get(key)
        return _READERS[self.kind](request)


_READERS: Mapping[str, Callable[[Request], Any]] = {
    "peer": lambda r: r.peer,
    "source_ip": lambda r: r.source_ip,
    "remote_ip": lambda r: r.client_ip,
    "destination_ip": lambda r: r.destination_ip,
    "port": lambda r: r.port,
    "sni": lambda r: r.sni,
    "host": lambda r: r.host,
    "method": lambda r: r.method,
    "path": lambda r: r.path,
    "token": lambda r: r.token,
}


@dataclass(frozen=True)
class Condition:
    """One field of a rule: any of `values` must fit, or with `negated` none may."""

    dimension: Dimension
    key: str
    """The field as the policy writes it (`principals`, `request.headers[x-a]`)."""
    values: tuple[str, ...]
    negated: bool
    tests: tuple[Callable[[Any], bool], ...]

    def holds(self, value: Any) -> bool:
        """Whether the condition is true for a value of its dimension."""
        return any(test(value) for test in self.tests) is not self.negated


@dataclass(frozen=True)
class Rule:
    """One rule: some `sources` alternative and some `operations` alternative must hold whole."""

    name: str
    sources: tuple[tuple[Condition, ...], ...]
    operations: tuple[tuple[Condition, ...], ...]

    def matches(self, request: Request) -> bool:
        """Whether the rule is true for a request."""
        return all(
            any(all(c.holds(c.dimension.of(request)) for c in group) for group in groups)
            for groups in (self.sources, self.operations)
        )

    def conditions(self) -> Iterable[Condition]:
        """All conditions, of all alternatives."""
        for groups in (self.sources, self.operations):
            for group in groups:
                yield from group


@dataclass(frozen=True)
class Policy:
    """One AuthorizationPolicy, ready to be asked."""

    name: str
    action: str
    rules: tuple[Rule, ...]
    provider: str = ""


def compile_policy(policy: Object, mesh: Mesh, *, http: bool = True) -> Policy:
    """The policy as the proxy of an HTTP or TCP port enforces it.

    On TCP an ALLOW rule with an HTTP field is left out (it can't be proven), and a DENY rule loses
    the field (and so denies more). The same goes for a value that can't be read.
    """
    spec = policy.get("spec") or {}
    action = str(spec.get("action") or "ALLOW")
    label = f"AuthorizationPolicy {namespace_of(policy)}/{name_of(policy)}"
    rules = []
    for index, rule in enumerate(spec.get("rules") or ()):
        try:
            compiled = _rule(
                rule or {}, namespace_of(policy), mesh, http, lenient=action != "ALLOW"
            )
        except (InvalidRule, strings.InvalidValue):
            continue
        rules.append(Rule(f"{label} rule {index}", *compiled))
    provider = str((spec.get("provider") or {}).get("name", ""))
    return Policy(label, action, tuple(rules), provider)


_Groups = tuple[tuple[Condition, ...], ...]
_SOURCE = (
    ("principals", "notPrincipals"),
    ("requestPrincipals", "notRequestPrincipals"),
    ("serviceAccounts", "notServiceAccounts"),
    ("trustDomains", "notTrustDomains"),
    ("namespaces", "notNamespaces"),
    ("remoteIpBlocks", "notRemoteIpBlocks"),
    ("ipBlocks", "notIpBlocks"),
)
_OPERATION = (
    ("hosts", "notHosts"),
    ("methods", "notMethods"),
    ("paths", "notPaths"),
    ("ports", "notPorts"),
)
_WHEN = {
    "source.ip": "ipBlocks",
    "remote.ip": "remoteIpBlocks",
    "source.namespace": "namespaces",
    "source.serviceAccount": "serviceAccounts",
    "source.trustDomain": "trustDomains",
    "source.principal": "principals",
    "request.auth.principal": "requestPrincipals",
    "request.auth.audiences": "audiences",
    "request.auth.presenter": "presenter",
    "destination.ip": "destinationIp",
    "destination.port": "ports",
    "connection.sni": "sni",
}
_OF_OPERATION = {"destination_ip", "port", "sni", "metadata"}


def _rule(
    rule: Mapping[str, Any], namespace: str, mesh: Mesh, http: bool, *, lenient: bool
) -> tuple[_Groups, _Groups]:
    make = partial(_conditions, namespace=namespace, mesh=mesh, http=http, lenient=lenient)
    when = [
        condition
        for entry in rule.get("when") or ()
        for condition in make(
            str(entry.get("key", "")), entry.get("values") or (), entry.get("notValues") or ()
        )
    ]
    of_source = tuple(c for c in when if c.dimension.kind not in _OF_OPERATION)
    of_operation = tuple(c for c in when if c.dimension.kind in _OF_OPERATION)

    def alternatives(
        entries: Sequence[Mapping[str, Any]],
        inner: str,
        fields: Sequence[tuple[str, str]],
        common: tuple[Condition, ...],
    ) -> _Groups:
        groups = []
        for entry in entries:
            body = (entry or {}).get(inner) or {}
            own = [
                c for yes, no in fields for c in make(yes, body.get(yes) or (), body.get(no) or ())
            ]
            groups.append((*own, *common))
        return tuple(groups) or (common,)

    return (
        alternatives(rule.get("from") or (), "source", _SOURCE, of_source),
        alternatives(rule.get("to") or (), "operation", _OPERATION, of_operation),
    )


def _conditions(
    key: str,
    values: Sequence[Any],
    not_values: Sequence[Any],
    *,
    namespace: str,
    mesh: Mesh,
    http: bool,
    lenient: bool,
) -> list[Condition]:
    """The conditions of one field and its `not` twin."""
    dimension, make = _reader(_WHEN.get(key, key), namespace, mesh)
    found = []
    for listed, negated in ((values, False), (not_values, True)):
        if not listed:
            continue
        texts = tuple(str(value) for value in listed)
        if not http and dimension.kind in HTTP_ONLY:
            if lenient:
                continue
            raise strings.InvalidValue(f"{key} does not exist on TCP")
        tests: list[_Test] = []
        for text in texts:
            try:
                tests.extend(make(text))
            except strings.InvalidValue:
                if not lenient:
                    raise
        if tests:
            found.append(Condition(dimension, key, texts, negated, tuple(tests)))
    return found


_Test = Callable[[Any], bool]


def _reader(
    field: str, namespace: str, mesh: Mesh
) -> tuple[Dimension, Callable[[str], Iterable[_Test]]]:
    """The dimension that a field reads, and what makes tests out of its values."""
    if field.startswith("request.headers"):
        name = _in_brackets(field, "request.headers").lower()
        return Dimension("header", name), lambda v: (strings.header(v),)
    if field.startswith("request.auth.claims"):
        keys = _claim_keys(field.removeprefix("request.auth.claims"))
        return Dimension("token"), lambda v: (partial(_claim_fits, keys, strings.simple(v)),)
    if field.startswith("experimental.envoy.filters."):
        name = field.removeprefix("experimental.").removesuffix("]")
        if "[" not in name:
            raise InvalidRule(f"{field}: a key in brackets is missing")
        return Dimension("metadata", name), lambda v: (_metadata_test(v),)
    if field not in _MAKERS:
        raise InvalidRule(f"{field!r} is no attribute that Istio knows")
    kind, make = _MAKERS[field]
    if field == "serviceAccounts":
        return Dimension(kind), lambda v: (_with_peer(strings.service_account(v, namespace)),)
    if field == "principals":
        return Dimension(kind), lambda v: (
            _with_peer(strings.principal(each)) for each in _with_aliases(v, mesh)
        )
    if field == "trustDomains":
        return Dimension(kind), lambda v: (
            _with_peer(strings.trust_domain(each)) for each in _domain_aliases(v, mesh)
        )
    return Dimension(kind), lambda v: (make(v),)


def _with_peer(test: strings.StringTest) -> _Test:
    """A test of an identity: a caller without a certificate never fits."""
    return lambda peer: peer is not None and test(peer)


def _with_token(test: Callable[[Token], bool]) -> _Test:
    return lambda token: token is not None and test(token)


def _subject(token: Token) -> str | None:
    subject = token.claims.get("sub")
    return subject if isinstance(subject, str) else None


_MAKERS: Mapping[str, tuple[str, Callable[[str], _Test]]] = {
    "principals": ("peer", lambda v: _with_peer(strings.principal(v))),
    "namespaces": ("peer", lambda v: _with_peer(strings.namespace(v))),
    "serviceAccounts": ("peer", lambda v: _with_peer(strings.service_account(v, ""))),
    "trustDomains": ("peer", lambda v: _with_peer(strings.trust_domain(v))),
    "ipBlocks": ("source_ip", strings.ip_block),
    "remoteIpBlocks": ("remote_ip", strings.ip_block),
    "destinationIp": ("destination_ip", strings.ip_block),
    "ports": ("port", strings.port),
    "sni": ("sni", strings.simple),
    "hosts": ("host", strings.host),
    "methods": ("method", strings.header),
    "paths": ("path", strings.path),
    "requestPrincipals": (
        "token",
        lambda v: _with_token(lambda t: strings.request_principal(v)(t.issuer, _subject(t))),
    ),
    "audiences": ("token", lambda v: partial(_claim_fits, ("aud",), strings.simple(v))),
    "presenter": ("token", lambda v: partial(_claim_fits, ("azp",), strings.simple(v))),
}


def _claim_fits(keys: Sequence[str], fits: strings.StringTest, token: Token | None) -> bool:
    """Whether a claim (nested by `keys`) is a text that fits, or a list with such a text."""
    if token is None:
        return False
    value: Claim = token.claims
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    if keys in (("scope",), ("permission",)) and isinstance(value, str):
        value = value.split(" ")  # Envoy reads these two as lists parted by spaces
    return _value_fits(value, fits)


def _value_fits(value: Claim, fits: strings.StringTest) -> bool:
    if isinstance(value, list | tuple):
        return any(isinstance(each, str) and fits(each) for each in value)
    return isinstance(value, str) and fits(value)


def _metadata_test(value: str) -> _Test:
    """`[v]` asks for a list with v, `v` for a text."""
    if value.startswith("[") and value.endswith("]"):
        fits = strings.simple(value.strip("[]"))
        return lambda data: isinstance(data, list | tuple) and _value_fits(data, fits)
    fits = strings.simple(value)
    return lambda data: isinstance(data, str) and fits(data)


def _in_brackets(field: str, prefix: str) -> str:
    rest = field.removeprefix(prefix)
    if not (rest.startswith("[") and rest.endswith("]")):
        raise InvalidRule(f"{field}: expected {prefix}[NAME]")
    return rest[1:-1]


def _claim_keys(rest: str) -> tuple[str, ...]:
    """`[a][b]` → (a, b); brackets that do not pair are part of one name."""
    keys, begin = [], 0
    while begin < len(rest):
        end = rest.find("]", begin)
        if rest[begin] != "[" or end == -1 or "[" in rest[begin + 1 : end]:
            return (_in_brackets(f"request.auth.claims{rest}", "request.auth.claims"),)
        keys.append(rest[begin + 1 : end])
        begin = end + 1
    return tuple(keys)


def _with_aliases(principal: str, mesh: Mesh) -> Iterable[str]:
    """A principal in the mesh's own trust domain (or `cluster.local`) stands for its aliases too."""
    domain, *rest = principal.split("/")
    if len(rest) != 4 or domain == "*":
        return (principal,)
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    if domain != "cluster.local" and not any(strings.simple(domain)(each) for each in domains):
        return (principal,)
    return dict.fromkeys(
        principal if strings.simple(domain)(each) else "/".join((each, *rest)) for each in domains
    )


def _domain_aliases(domain: str, mesh: Mesh) -> Iterable[str]:
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    return domains if domain in domains else (domain,)
