"""Clients' addresses as the gateway learns them: behind the trusted proxies, or of the connection."""

from __future__ import annotations

from ipaddress import ip_network

from lab.contracts.facts import Facts

ELSEWHERE = "198.18.255.1"
"""A client's address that no list names."""
_PROXY = "192.0.2.1"
"""What a trusted proxy writes of the one before it."""
Header = tuple[str, str]


def within(block: str, number: int = 7) -> str:
    """An address of a block, which may be a single address and of either family."""
    network = ip_network(block)
    return str(network[number % network.num_addresses])


def forwarded(facts: Facts, address: str, *claimed: str) -> Header:
    """X-Forwarded-For of a client at an address that wrote something into it itself.

    The first trusted proxy adds the client's address, each further one the proxy before it. Without
    trusted proxies nothing of it counts.
    """
    behind = (_PROXY,) * max(facts.settings.gateway.trusted_proxies - 1, 0)
    return "x-forwarded-for", ", ".join((*claimed, address, *behind))


def from_administration(facts: Facts, number: int = 7) -> Header | None:
    """The header of a client whose address may use restricted operations; None where none may.

    Without trusted proxies a client can't choose its address, and so no call can be made from one.
    """
    blocks = facts.settings.authorization.admin_addresses
    if not blocks or not facts.settings.gateway.trusted_proxies:
        return None
    return forwarded(facts, within(blocks[0], number))
