"""Whether a CORS policy takes origins of foreign pages: some are tried against its matchers.

Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/#StringMatch
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_ENDINGS = ("com", "net", "org", "io", "dev", "app", "ai", "cloud", "example", "co.uk")
_ANYBODYS = (
    "null",
    "https://evil.example:8443",
    "http://evil",
    "https://10.0.0.1",
    *(f"{scheme}://evil.{end}" for scheme in ("https", "http") for end in _ENDINGS),
    *(f"https://a.b.evil.{end}" for end in _ENDINGS),
)
"""Origins that are nobody's in particular; pages in a sandbox have the origin `null`."""
_UP_TO_THE_PORT = re.compile(r"[a-z][a-z0-9+.-]*://[^/:]+:\d*")
_WILD = re.compile(r"(?:\.|\[[^\]]*\]|\\[wSD])(?:[*+]|\{\d*,?\d*\})\??")
_GROUP = re.compile(r"(?<!\\)\((?:\?:)?([^()|]*)[^()]*\)[?*+]?")
"""A group, to be replaced by its first alternative."""
_OPTIONAL = re.compile(r"(?<!\\)([a-zA-Z0-9:/-])\?")
_ESCAPED = re.compile(r"\\(.)")


def foreign_origin(matcher: Any) -> str | None:
    """A foreign page's origin that a matcher of `allowOrigins` takes; None where it takes none.

    Regular expressions take whole origins, as in Envoy. One that can't be read takes everything:
    what could not be judged has not held.
    """
    if not isinstance(matcher, Mapping):  # the older `allowOrigin`
        return _of_exact(str(matcher))
    if "prefix" in matcher:
        prefix = str(matcher["prefix"])
        # Behind a colon stands the port: the host is whole.
        return None if _UP_TO_THE_PORT.fullmatch(prefix) else f"{prefix}.evil.example"
    if "regex" in matcher:
        return _of_regex(str(matcher["regex"]))
    return _of_exact(str(matcher.get("exact", "")))


def _of_exact(origin: str) -> str | None:
    return {"*": "https://evil.example", "null": "null"}.get(origin)


def _of_regex(pattern: str) -> str | None:
    try:
        taken = re.compile(pattern)
    except re.error:
        return f"{pattern} is no regular expression"
    return next((o for o in (*_ANYBODYS, *_derived(pattern)) if taken.fullmatch(o)), None)


def _derived(pattern: str) -> Iterator[str]:
    """Origins of others that look like those a regular expression is meant for."""
    core = pattern.removeprefix("^").removesuffix("$")
    for _ in range(3):  # groups within groups
        core = _GROUP.sub(r"\1", core)
    core = _OPTIONAL.sub(r"\1", core)
    # Something that ends in a host without a dot before it, or goes on behind it.
    for wild in ("", "evil"):
        literal = _ESCAPED.sub(r"\1", _WILD.sub(_instead_of(core, wild), core))
        yield f"{literal}.evil.example"
        yield f"{literal}evil.example"
        if wild in literal and wild not in core:
            yield literal if "://" in literal else f"https://{literal}"
    # A dot without a backslash takes any letter: https://app.shop.example and appxshop.example.
    plain = _WILD.sub("x", core)
    for found in re.finditer(r"(?<!\\)\.(?![*+?{])", plain):
        yield _ESCAPED.sub(r"\1", f"{plain[: found.start()]}x{plain[found.end() :]}")


def _instead_of(core: str, wild: str) -> Any:
    """Wildcards before a whole label are somebody's own subdomain and become one of them."""

    def text(found: re.Match[str]) -> str:
        return "own" if core[found.end() : found.end() + 2] in (r"\.", ".") else wild

    return text
