"""DENY rules about claims of tokens, and which requests they leave open on either side of a gateway."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from policies.access_rules import action_of, allows, any_covers, dry_run
from policies.exposed import Exposure, declared_open_paths, gateway_ports
from policies.policy import Object
from policies.regions import (
    HOST,
    METHOD,
    OTHER_ISSUER,
    OTHER_PORT,
    PATH,
    PEER,
    PORT,
    TOKEN,
    Region,
    missed,
    regions,
    samples,
    token,
)
from policies.rules.references import ports_of
from policies.rules.tokens import issuers_of
from policies.stack import Stack
from policies.workloads import Workload
from semantics.conditions import Dimension
from semantics.mesh import Mesh
from semantics.request import Token
from semantics.strings import SPIFFE

CLIENT = Dimension("remote_ip")
Hole = Mapping[Dimension, Any] | None
"""A request that nobody refuses; None where there is none."""
_CLAIM = "request.auth.claims["


@dataclass(frozen=True)
class ClaimRule:
    """A clause of a DENY policy that refuses tokens without certain values of a claim."""

    policy: Object
    key: str
    """The claim as the policy writes it: `request.auth.claims[role]`."""
    values: frozenset[str]
    """Values of which the token needs one; `*` for any."""
    region: Region
    """Which requests need it: the clause without the condition on the claim."""


def claim_rules(policies: Iterable[Object], mesh: Mesh) -> list[ClaimRule]:
    """The rules about claims of those policies that are enforced."""
    return [
        ClaimRule(policy, condition.key, frozenset(condition.values), region.without(condition))
        for policy in policies
        if action_of(policy) == "DENY" and not dry_run(policy)
        for region in regions(policy, mesh)
        for condition in region.conditions
        if condition.negated and condition.key.startswith(_CLAIM)
    ]


def pod_ports(stack: Stack, workload: Workload) -> list[int]:
    """Ports of a workload's pods; one that stands for all where nobody knows them."""
    known = sorted(int(port) for port in ports_of(stack, workload) if port.isdigit())
    return known or [OTHER_PORT]


def open_ports(stack: Stack, workload: Workload, mesh: Mesh) -> list[int]:
    """Ports that some ALLOW policy of a workload opens; all of its ports where there is none."""
    opening = [
        region
        for policy in stack.applying("AuthorizationPolicy", workload)
        if allows(policy)
        for region in regions(policy, mesh)
    ]
    ports = pod_ports(stack, workload)
    named = samples(PORT, [condition for region in opening for condition in region.on(PORT)])
    tried = dict.fromkeys([*ports, *(port for port in named if port != OTHER_PORT)])
    found = [p for p in tried if any(all(c.holds(p) for c in r.on(PORT)) for r in opening)]
    return found or ports


def known_addresses(blocks: Iterable[str]) -> bool:
    """Whether address ranges are a list of addresses, and not half the internet."""
    for block in blocks:
        try:
            network = ipaddress.ip_network(block, strict=False)
        except ValueError:
            continue  # istiod leaves it out of a DENY
        if network.prefixlen < (8 if network.version == 4 else 16):
            return False
    return True


class Edge:
    """A gateway, and the requests with a token that come in through it."""

    def __init__(self, stack: Stack, gateway: Workload) -> None:
        self.gateway = gateway
        self._stack = stack
        self._open = declared_open_paths(stack, gateway)

    @cached_property
    def _tokens(self) -> list[Token]:
        issuers = sorted(issuers_of(self._stack, self.gateway)) or [OTHER_ISSUER]
        return [token(issuer) for issuer in issuers]

    @cached_property
    def _principals(self) -> list[str]:
        """What the services behind the gateways see as their caller."""
        return [
            f"{SPIFFE}{domain}/ns/{account.replace('/', '/sa/')}"
            for account in sorted(self._stack.gateway_accounts)
            for domain in sorted(self._stack.trust_domains)
        ]

    @cached_property
    def _ports(self) -> list[int]:
        found = [int(p) for p in gateway_ports(self._stack, self.gateway) if p.isdigit()]
        return found or [OTHER_PORT]

    def paths(self, region: Region, way: Exposure, others: Sequence[Region] = ()) -> list[str]:
        """Paths of the region that a route takes and that need a token.

        `others` are the rules that are held against it: paths at their bounds are among them. A
        service behind a rewrite sees other paths, so they tell nothing of each other.
        """
        own = region.on(PATH)
        if way.rewritten and own:
            return []
        bounds = [c for each in (region, *others) for c in each.on(PATH)]
        below = way.uri.rstrip("/")
        tried = [way.uri or "/", f"{below}/some", *samples(PATH, bounds)]
        return [
            path
            for path in dict.fromkeys(tried)
            if way.takes(path)
            and all(c.holds(path) for c in own)
            and not any_covers(self._open, path)
        ]

    def leads(self, region: Region, way: Exposure) -> bool:
        """Whether a rule's paths are those of a route or below, and not of one that it is part of.

        Another service may be behind a part of what a rule is about.
        """
        paths = [v for c in region.on(PATH) if not c.negated for v in c.values]
        inside = way.how == "regex" or any(p.startswith(way.uri.rstrip("/")) for p in paths)
        return inside and bool(self.paths(region, way))

    def missed_at_gateway(
        self, region: Region, ways: Iterable[Exposure], asking: Sequence[Region]
    ) -> Hole:
        """A request for a service's rule which none of the gateway's rules refuses."""
        callers = region.on(PEER)
        if callers and not any(all(c.holds(p) for c in callers) for p in self._principals):
            return None
        for way in ways:
            box = self._box(region, way, asking)
            if box[PATH]:
                hole = missed(asking, {**box, PORT: self._ports})
                if hole is not None:
                    return hole
        return None

    def missed_at_service(
        self,
        region: Region,
        ways: Iterable[Exposure],
        asking: Sequence[Region],
        workload: Workload,
    ) -> Hole:
        """A request for a rule of the gateway which none of a service's rules refuses."""
        for way in ways:
            box: dict[Dimension, Sequence[Any]] = {
                **self._box(region, way, asking),
                PORT: way.ports or pod_ports(self._stack, workload),
                PEER: self._principals or [None],
            }
            hole = missed(asking, box)
            if hole is not None:
                return hole
        return None

    def missed_everywhere(self, region: Region, asking: Sequence[Region]) -> Hole:
        """A request of a rule of the gateway which none of its other rules refuses."""
        dimensions = dict.fromkeys(d for each in (region, *asking) for d in each.dimensions())
        box = {d: list(self._taken(region, d, asking)) for d in dimensions}
        ports = [p for p in self._ports if all(c.holds(p) for c in region.on(PORT))]
        return missed(asking, {**box, PORT: ports, TOKEN: self._tokens})

    def _box(
        self, region: Region, way: Exposure, asking: Sequence[Region]
    ) -> dict[Dimension, Sequence[Any]]:
        return {
            METHOD: list(self._taken(region, METHOD, asking)),
            PATH: self.paths(region, way, asking),
            # Clients may write the port into the host, and policies compare what they write.
            HOST: [h for host in way.hosts for h in (host.replace("*", "some"), f"{host}:443")]
            or samples(HOST, [c for each in asking for c in each.on(HOST)]),
            TOKEN: self._tokens,
        }

    def _taken(
        self, region: Region, dimension: Dimension, others: Sequence[Region]
    ) -> Iterator[Any]:
        """Values that a region takes, those at the bounds of others among them; no preflights."""
        own = region.on(dimension)
        for value in samples(
            dimension, [*own, *(c for each in others for c in each.on(dimension))]
        ):
            if all(c.holds(value) for c in own) and (dimension != METHOD or value != "OPTIONS"):
                yield value
