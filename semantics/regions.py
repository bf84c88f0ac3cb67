"""Verdicts on all requests to a workload at once.

Each dimension's values are merged into classes that no condition tells apart; what remains is a
small grid, and each policy rule is a union of boxes in it. So two revisions are compared exactly
(for every value that either of them names) and fast.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semantics import witnesses
from semantics.authentication import MtlsMode, RefusedToken, authenticate
from semantics.authorization import Guard
from semantics.conditions import Condition, Dimension, Policy, Rule
from semantics.paths import normalize
from semantics.request import Outcome, Request, Token

Mask = NDArray[np.bool_]
Grid = NDArray[np.uint8]

DENY, CUSTOM, ALLOW = 0, 1, 2
"""Verdicts, each letting in more than the one before: CUSTOM only what an authorizer agrees to."""
OUTCOMES = {DENY: Outcome.DENY, ALLOW: Outcome.ALLOW, CUSTOM: Outcome.CUSTOM}

PEER, PORT, TOKEN = Dimension("peer"), Dimension("port"), Dimension("token")
OTHER_PORT = 65000
"""Stands for every port that neither a Service nor a policy names."""
MAX_CELLS = 8_000_000
_ORDER = (
    "peer",
    "port",
    "host",
    "path",
    "method",
    "token",
    "remote_ip",
    "source_ip",
    "header",
    "sni",
    "destination_ip",
    "metadata",
)


@dataclass(frozen=True)
class Axis:
    """One dimension and its classes; each class is a list of values that nothing tells apart."""

    dimension: Dimension
    classes: tuple[tuple[Any, ...], ...]

    @property
    def representatives(self) -> tuple[Any, ...]:
        """One value of each class."""
        return tuple(each[0] for each in self.classes)


@dataclass(frozen=True)
class Space:
    """The grid of request classes that a set of guards tells apart."""

    axes: tuple[Axis, ...]
    complete: bool = True
    """False where the grid was too large and some combinations are left out."""
    _index: Mapping[Dimension, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of classes in each dimension."""
        return tuple(len(axis.classes) for axis in self.axes)

    def axis(self, dimension: Dimension) -> Axis | None:
        """The axis of a dimension, if any condition reads it."""
        index = self._index.get(dimension)
        return None if index is None else self.axes[index]

    def along(self, dimension: Dimension, values: Sequence[bool]) -> Mask:
        """A mask over one axis, shaped so that it combines with masks over others."""
        shape = [1] * len(self.axes)
        shape[self._index[dimension]] = len(values)
        return np.array(values, dtype=bool).reshape(shape)

    def request(self, cell: Sequence[int]) -> Request:
        """The representative request of a cell."""
        request = Request()
        headers: dict[str, str] = {}
        metadata: dict[str, dict[str, Any]] = {}
        for axis, index in zip(self.axes, cell, strict=True):
            kind, value = axis.dimension.kind, axis.classes[index][0]
            if kind == "header":
                if value is not None:
                    headers[axis.dimension.name] = value
            elif kind == "metadata":
                name, _, key = axis.dimension.name.partition("[")
                metadata.setdefault(name, {})[key] = value
            else:
                request = replace(request, **{kind: value})
        return replace(request, headers=headers, metadata=metadata)


def space_of(
    guards: Iterable[Guard],
    identities: Iterable[tuple[str, str]],
    *,
    extra: Mapping[Dimension, Sequence[Any]] | None = None,
    only: Sequence[Dimension] | None = None,
) -> Space:
    """The grid for the policies of all given guards (of the same workload in two revisions).

    `extra` adds values to try. With `only`, the axes of these dimensions are made and are whole
    however many cells they span: for callers that look at single cells.
    """
    guards = tuple(guards)
    always = (PEER, PORT, TOKEN) if only is None else only
    by_dimension: dict[Dimension, list[Condition]] = {dimension: [] for dimension in always}
    headers: set[str] = set()
    for condition in _read_by(guards):
        if condition.dimension.kind == "header":
            headers.add(condition.dimension.name)
        if only is None or condition.dimension in only:
            by_dimension.setdefault(condition.dimension, []).append(condition)
    axes = [
        _axis(dimension, conditions, guards, identities, (extra or {}).get(dimension, ()), headers)
        for dimension, conditions in sorted(
            by_dimension.items(), key=lambda item: (_ORDER.index(item[0].kind), item[0].name)
        )
    ]
    fitted = axes if only is not None else _fitted(axes)
    return Space(
        tuple(fitted),
        complete=fitted == axes,
        _index={axis.dimension: index for index, axis in enumerate(fitted)},
    )


def _read_by(guards: Iterable[Guard]) -> Iterator[Condition]:
    for guard in guards:
        for policy in (*guard.http_policies, *guard.tcp_policies):
            for rule in policy.rules:
                yield from rule.conditions()


def _axis(
    dimension: Dimension,
    conditions: Sequence[Condition],
    guards: Sequence[Guard],
    identities: Iterable[tuple[str, str]],
    extra: Sequence[Any],
    headers: Collection[str],
) -> Axis:
    values: list[Any]
    if dimension == PEER:
        values = list(witnesses.peers(conditions, identities, guards[0].objects.mesh.trust_domain))
    elif dimension == PORT:
        named = {int(v) for c in conditions for v in c.values if v.isdigit()}
        for guard in guards:
            named |= set(guard.workload.ports) | set(guard.mtls.ports)
        values = [*sorted(named), OTHER_PORT]
    elif dimension == TOKEN:
        values = list(witnesses.tokens(conditions, {r.issuer for g in guards for r in g.jwt_rules}))
        values = [_with_audience(token, guards) for token in values]
        values = [each for token in values for each in _in_every_place(token, guards)]
    else:
        values = witnesses.candidates(dimension, conditions)
    if dimension.kind == "path":
        how = guards[0].objects.mesh.path_normalization
        values = list(dict.fromkeys(normalize(value, how) for value in values))
    values += [value for value in extra if value not in values]
    distinct = {(id(c.tests), c.negated): c for c in conditions}
    classes: dict[Any, list[Any]] = {}
    for value in values:
        signature = (
            tuple(c.holds(value) for c in distinct.values()),
            _treatment(dimension, value, guards, headers),
        )
        classes.setdefault(signature, []).append(value)
    return Axis(dimension, tuple(tuple(each) for each in classes.values()))


def _with_audience(token: Token | None, guards: Sequence[Guard]) -> Token | None:
    """The token with an audience that its issuer's rule accepts, where it names none."""
    if token is None or "aud" in token.claims:
        return token
    for guard in guards:
        for rule in guard.jwt_rules:
            if rule.issuer == token.issuer and rule.audiences:
                return replace(token, claims={**token.claims, "aud": min(rule.audiences)})
    return token


def _in_every_place(token: Token | None, guards: Sequence[Guard]) -> Iterator[Token | None]:
    """The token where it is usually sent, and wherever else some rule looks for one."""
    yield token
    if token is not None:
        places = {place for guard in guards for rule in guard.jwt_rules for place in rule.headers}
        for place in sorted(places - {token.header}):
            yield replace(token, header=place)


def _treatment(
    dimension: Dimension, value: Any, guards: Sequence[Guard], headers: Collection[str]
) -> Any:
    """What tells values apart besides policies: mTLS modes, protocols, tokens, claim headers.

    Of these only the `headers` that policies read: no verdict hangs on the others.
    """
    if dimension == PEER:
        return value is None
    if dimension == PORT:
        return tuple((g.mtls.of(value), g.workload.ports.get(value, True)) for g in guards)
    if dimension == TOKEN:
        return tuple(_told(_seen(value, guard), headers) for guard in guards)
    return None


def _told(seen: _Seen, headers: Collection[str]) -> _Seen:
    if seen is None:
        return None
    return seen[0], tuple(each for each in seen[1] if each[0] in headers)


_Seen = tuple[bool, tuple[tuple[str, str], ...]] | None


def _seen(token: Token | None, guard: Guard) -> _Seen:
    """What the policies of a guard see of a token: None refused, else (seen at all, headers)."""
    try:
        seen = authenticate(Request(token=token), guard.jwt_rules)
    except RefusedToken:
        return None
    return (seen.token is not None, tuple(sorted(seen.headers.items())))


def _fitted(axes: list[Axis]) -> list[Axis]:
    """The axes, the longest shortened until the grid fits in memory and time."""
    axes = list(axes)
    while math.prod(len(axis.classes) for axis in axes) > MAX_CELLS:
        longest = max(range(len(axes)), key=lambda i: len(axes[i].classes))
        classes = axes[longest].classes
        axes[longest] = replace(axes[longest], classes=classes[: len(classes) * 2 // 3])
    return axes


def verdicts(guard: Guard, space: Space) -> Grid:
    """The verdict on each cell of the grid: DENY, ALLOW or CUSTOM."""
    if not guard.workload.proxied:
        return np.full(space.shape, ALLOW, dtype=np.uint8)
    ports = _axis_of(space, PORT).representatives
    http = [guard.workload.ports.get(port, True) for port in ports]
    modes = [MtlsMode.PERMISSIVE if guard.workload.gateway else guard.mtls.of(p) for p in ports]
    result = np.zeros(space.shape, dtype=np.uint8)
    for speaks_http in sorted(set(http)):
        for disabled in sorted({mode is MtlsMode.DISABLE for mode in modes}):
            chosen = [
                h == speaks_http and (m is MtlsMode.DISABLE) == disabled
                for h, m in zip(http, modes, strict=True)
            ]
            if any(chosen):
                grid = _Evaluation(guard, space, http=speaks_http, anonymous=disabled).grid()
                result = np.where(space.along(PORT, chosen), grid, result).astype(np.uint8)
    anonymous = [peer is None for peer in _axis_of(space, PEER).representatives]
    strict = [mode is MtlsMode.STRICT for mode in modes]
    refused = space.along(PEER, anonymous) & space.along(PORT, strict)
    return np.where(refused, DENY, result).astype(np.uint8)


def _axis_of(space: Space, dimension: Dimension) -> Axis:
    axis = space.axis(dimension)
    assert axis is not None, f"every grid has the axis {dimension}"
    return axis


@dataclass(frozen=True)
class _Evaluation:
    """One guard's policies over a grid, for ports of one protocol and one mTLS treatment."""

    guard: Guard
    space: Space
    http: bool
    anonymous: bool

    def grid(self) -> NDArray[Any]:
        policies = self.guard.policies(http=self.http)
        denied = self._any(policies, "DENY", tokens=True)
        allowing = [policy for policy in policies if policy.action == "ALLOW"]
        allowed = self._any(allowing, "ALLOW", tokens=True) if allowing else self._all()
        verdict = np.where(denied | ~allowed, DENY, ALLOW)
        known = self.guard.objects.mesh.authorizers
        asked = [p for p in policies if p.action == "CUSTOM"]
        if asked:
            verdict = np.where(
                self._any(asked, "CUSTOM", tokens=False) & (verdict == ALLOW), CUSTOM, verdict
            )
            unknown = [p for p in asked if known is not None and p.provider not in known]
            verdict = np.where(self._any(unknown, "CUSTOM", tokens=False), DENY, verdict)
        if self.http:
            tokens = _axis_of(self.space, TOKEN).representatives
            refused = [_seen(token, self.guard) is None for token in tokens]
            verdict = np.where(self.space.along(TOKEN, refused), DENY, verdict)
        return verdict

    def _all(self) -> Mask:
        return np.ones([1] * len(self.space.axes), dtype=bool)

    def _any(self, policies: Iterable[Policy], action: str, *, tokens: bool) -> Mask:
        result = ~self._all()
        for policy in policies:
            if policy.action == action:
                for rule in policy.rules:
                    result = result | self._rule(rule, tokens)
        return result

    def _rule(self, rule: Rule, tokens: bool) -> Mask:
        result = self._all()
        for groups in (rule.sources, rule.operations):
            either = ~self._all()
            for group in groups:
                each = self._all()
                for condition in group:
                    each = each & self._condition(condition, tokens)
                either = either | each
            result = result & either
        return result

    def _condition(self, condition: Condition, tokens: bool) -> Mask:
        dimension = condition.dimension
        if dimension.kind == "header" and tokens and self.http:
            claim = self._claim_of(dimension.name)
            if claim:
                return self._claim_header(condition)
        values = _axis_of(self.space, dimension).representatives
        if dimension == PEER and self.anonymous:
            values = (None,) * len(values)
        if dimension == TOKEN:
            values = tuple(self._visible(token) if tokens else None for token in values)
        return self.space.along(dimension, [condition.holds(value) for value in values])

    def _visible(self, token: Token | None) -> Token | None:
        seen = _seen(token, self.guard)
        return token if seen is not None and seen[0] else None

    def _claim_of(self, header: str) -> bool:
        return any(header == h for rule in self.guard.jwt_rules for _, h in rule.claim_headers)

    def _claim_header(self, condition: Condition) -> Mask:
        """A header that is filled from a claim: what the client sends there does not count."""
        values = []
        for token in _axis_of(self.space, TOKEN).representatives:
            seen = _seen(token, self.guard)
            headers = dict(seen[1]) if seen is not None else {}
            values.append(condition.holds(headers.get(condition.dimension.name)))
        return self.space.along(TOKEN, values)
