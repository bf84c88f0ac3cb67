"""Callers and requests in words that a reviewer reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from semantics.conditions import Dimension
from semantics.regions import OTHER_PORT
from semantics.request import AUTHORIZATION, Token
from semantics.witnesses import (
    METHODS,
    OTHER_DOMAIN,
    OTHER_HOST,
    OTHER_METHOD,
    OTHER_NAME,
    OTHER_PATH,
    OTHER_VALUE,
)

_SECRET = re.compile(r"auth|token|key|secret|cookie|password|credential", re.IGNORECASE)
"""Headers whose values are not written out."""
SHOWN = 6
"""How many values of a list are written out."""


def peers_text(
    peers: Iterable[str | None], namespace: str = "", excluded: Iterable[str | None] = ()
) -> str:
    """Callers: named identities first, then the groups that stand for many.

    Identities of `namespace` are told by their service account alone. Where any identity is
    meant, `excluded` are those that are not.
    """
    peers = list(peers)
    named = _named_peers(peers, namespace)
    groups = []
    stand_ins = [p for p in peers if p is not None and OTHER_NAME in p]
    if any(p.endswith(f"/ns/{OTHER_NAME}/sa/{OTHER_NAME}") for p in stand_ins):
        missing = _named_peers(excluded, namespace)
        but = f" but {listed(missing)}" if missing else ""
        groups.append(f"any identity of the mesh{but}")
        named = []
    else:
        groups += _one_domain([_group_text(p) for p in sorted(stand_ins)])
    if None in peers:
        groups.append("anyone without an identity (plaintext)")
    if groups[:1] == ["any identity of the mesh"] and None in peers:
        return "anyone"
    return listed([*named, *groups])


def _peer_text(peer: str) -> str:
    parts = peer.split("/")
    if len(parts) != 7:
        return peer
    domain = "" if parts[2] == "cluster.local" else f" of {parts[2]}"
    return f"{parts[4]}/{parts[6]}{domain}"


def _named_peers(peers: Iterable[str | None], namespace: str) -> list[str]:
    named = sorted(
        _peer_text(p).removeprefix(f"{namespace}/")
        for p in peers
        if p is not None and OTHER_NAME not in p
    )
    return _one_domain(named)


def _one_domain(names: Sequence[str]) -> list[str]:
    """Names without the same ones of other trust domains; where these stand alone, said so."""
    foreign = f" of {OTHER_DOMAIN}"
    return [
        name.replace(foreign, " of any other trust domain")
        for name in names
        if not name.endswith(foreign) or name.removesuffix(foreign) not in names
    ]


def _group_text(peer: str) -> str:
    """Those for whom an identity stands that nobody has."""
    parts = peer.split("/")
    if len(parts) != 7:
        return f"any identity like {peer.replace(OTHER_NAME, '*')}"
    if parts[6] == OTHER_NAME and OTHER_NAME not in parts[4]:
        return f"any other identity in {parts[4]}"
    return f"any identity like {_peer_text(peer).replace(OTHER_NAME, '*')}"


def values_text(dimension: Dimension, values: Sequence[Any]) -> str:
    """A constraint on one dimension: `port 8080`, `GET or POST`, `with a token`."""
    match dimension.kind:
        case "port":
            return _port_text(values)
        case "method":
            return _methods_text(values)
        case "path":
            named = paths_text([v for v in values if v != OTHER_PATH])
            return _named("path", named, OTHER_PATH in values)
        case "host":
            # `host:*` is written beside `host` for clients that send the port: not worth a word.
            hosts = [v for v in values if v != OTHER_HOST]
            hosts = [v for v in hosts if v.removesuffix(":some") == v or v[:-5] not in hosts]
            return _named("host", hosts, OTHER_HOST in values)
        case "token":
            return tokens_text(values)
        case "header":
            return _header_text(dimension.name, values)
        case "remote_ip":
            return "client address like " + listed(values)
        case "source_ip":
            return "sender address like " + listed(values)
        case _:
            return (
                f"{dimension.kind.replace('_', ' ')} {dimension.name}".strip()
                + " "
                + listed("none" if v in (None, "") else v for v in values)
            )


def _port_text(values: Sequence[Any]) -> str:
    named = [v for v in values if v != OTHER_PORT]
    if OTHER_PORT in values:
        return f"port {listed(named)} and any unnamed one" if named else "any port not named"
    return f"port {listed(named)}"


def _methods_text(values: Sequence[Any]) -> str:
    if OTHER_METHOD in values:
        missing = [m for m in METHODS if m not in values]
        return f"any method but {listed(missing)}" if missing else "any method"
    return " or ".join(values)


def _named(word: str, values: Sequence[str], others: bool) -> str:
    if not values:
        return f"any other {word}"
    return f"{word} {listed(values)}" + (f" and any other {word}" if others else "")


def paths_text(paths: Sequence[str]) -> list[str]:
    """Paths, with `/a`, `/a/` and `/a/some` told as `/a and below`."""
    found = []
    left = set(paths)
    for path in paths:
        base = path.rstrip("/") if path != "/" else path
        below = {f"{base}/", f"{base}/some"}
        if path not in left or path == "/":
            continue
        if below <= left:
            word = f"{base} and below" if base in left else f"below {base}"
            left -= {base, *below}
            found.append(word)
    rest = [path for path in paths if path in left]
    covered = [word.removesuffix(" and below") for word in found if word.endswith(" and below")]
    return found + [p for p in rest if not any(p == f"{c}some" for c in covered)]


def _header_text(name: str, values: Sequence[Any]) -> str:
    present = [v for v in values if v is not None]
    if not present:
        return f"without header {name}"
    named = [v for v in present if v != OTHER_VALUE]
    if named and _SECRET.search(name):
        named = ["a certain value"]
    text = f"header {name}: {listed(named) if named else 'any other value'}"
    return text + (" or none" if None in values else "")


def tokens_text(tokens: Sequence[Token | None]) -> str:
    """What is asked of the token, as far as the classes tell."""
    real = [t for t in tokens if t is not None]
    if not real:
        return "without a token"
    if None in tokens:
        return "with or without a token"
    common = _common_claims(real)
    return "with a token" + _places_text(real) + (f" ({common})" if common else "")


def _places_text(tokens: Sequence[Token]) -> str:
    """Where the tokens are sent; nothing where that is the usual place."""
    places = {token.header for token in tokens}
    if AUTHORIZATION in places:
        return ""
    texts = [
        f"parameter {place[1:]}" if place.startswith("?")
        else place if place.startswith("cookie ")
        else f"header {place}"
        for place in sorted(places)
    ]  # fmt: skip
    return f" in {listed(texts)}"


def _common_claims(tokens: Sequence[Token]) -> str:
    """Claims that all of the tokens have, with their values where there are few."""
    names = set.intersection(*(set(t.claims) for t in tokens)) - {"iss", "sub", "aud"}
    parts = []
    for name in sorted(names):
        values = sorted({str(t.claims[name]) for t in tokens} - {OTHER_VALUE})
        others = any(t.claims[name] == OTHER_VALUE for t in tokens)
        parts.append(f"any {name}" if others or not values else f"{name} {listed(values)}")
    return ", ".join(parts)


def listed(values: Iterable[Any]) -> str:
    """Values parted by commas; past SHOWN, how many more there are."""
    texts = [str(value) for value in values]
    if len(texts) <= SHOWN:
        return ", ".join(texts)
    return f"{', '.join(texts[:SHOWN])} and {len(texts) - SHOWN} more"
