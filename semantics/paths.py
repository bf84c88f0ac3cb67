"""What a path looks like by the time an AuthorizationPolicy reads it.

Envoy rewrites the path of each request as `meshConfig.pathNormalization` says, before any filter
runs. Source:
https://istio.io/latest/docs/reference/config/security/normalization/
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Normalization = Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
"""Values of `meshConfig.pathNormalization.normalization`; DEFAULT means BASE."""

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

_ESCAPED_SLASH = re.compile(r"%2[fF]|%5[cC]")
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")


def normalize(path: str, how: Normalization = "DEFAULT") -> str:
    """The path after the mesh's normalization; the query is left alone."""
    if how == "NONE":
        return path
    bare, mark, query = path.partition("?")
    if how == "DECODE_AND_MERGE_SLASHES":
        bare = _ESCAPED_SLASH.sub(lambda m: "/" if m[0].lower() == "%2f" else "\\", bare)
    bare = _without_dot_segments(_decode_unreserved(bare).replace("\\", "/"))
    if how in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        bare = re.sub(r"/{2,}", "/", bare)
    return bare + mark + query


def _decode_unreserved(path: str) -> str:
    """Percent-escapes of letters, digits and `-._~` become the characters they stand for."""

    def decode(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.fullmatch(character) else match[0]

    return _ESCAPE.sub(decode, path)


def _without_dot_segments(path: str) -> str:
    """RFC 3986 section 5.2.4; empty segments count as segments."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "..":
            if kept:
                kept.pop()
            if last:
                kept.append("")
        elif segment == ".":
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)
