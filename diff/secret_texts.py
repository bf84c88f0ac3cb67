"""Secrets inside longer texts: configuration files, addresses, command lines, keys, tokens.

Each pattern has a group `value`: what must not be shown. None of them looks ahead or back without
bound, so that a long text takes no longer than it is long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from semantics.credentials import BY_LOOKS, encoded_private_keys

WORDS = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|authorization|requirepass|masterauth"
    r"|(?:api|private|access|auth|signing|encryption|hmac|shared|license|account|secret)[-_]?key"
    r"|access[-_]?key[-_]?id|client[-_]?secret"
)
"""Names of secrets, in whatever case, where they end a name."""
_REFERENCE = re.compile(r"^(?:\$\{[^}]*\}|\$\([^)]*\)|\$[A-Z_]+|\{\{.*\}\}|%[A-Z_(].*%)$")
_SETTING = re.compile(
    rf"(?:{WORDS})(?:\\?[\"'])?[ \t]*[:=][ \t]*"
    r"(?:\\?\"(?P<value>[^\"\\\n]+)|\\?'(?P<value2>[^'\\\n]+)"
    r"|[|>][-+0-9]*[ \t]*\n(?P<value3>(?:[ \t]+[^\n]*(?:\n|$))+)"
    r"|(?!(?:Bearer|Basic)\b)(?P<value4>[^\s\"',;}&|>\[{][^\s\"',;}&]*))",
    re.IGNORECASE,
)
_PATTERNS = (
    _SETTING,
    # A JSON file of registry credentials.
    re.compile(r"\\?[\"']auth\\?[\"']\s*:\s*\\?[\"'](?P<value>[^\"'\\]+)"),
    # scheme://user:password@host, up to the last @ of what may be the authority.
    re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^/\s:@\"']{0,200}:(?P<value>[^/\s\"']+)(?=@)", re.I),
    re.compile(r"[a-z][a-z0-9+.-]{0,20}://(?P<value>[^/\s:@\"']{16,400})(?=@)", re.I),
    re.compile(r"\b(?:Bearer|Basic)\s+(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.I),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----(?P<value>.*?)(?=-----END|\Z)", re.S),
    # Redis: its configuration's own words, and the passwords of its users.
    re.compile(r"\b(?:requirepass|masterauth|key-file-pass)[ \t]+(?P<value>[^\s\"']+)", re.I),
    re.compile(r"(?m)^[ \t]*user[ \t]+\S+[^\n]{0,200}?[ \t][>#](?P<value>[^\s>#]+)"),
    re.compile(r"\blogin\s+\S+\s+password\s+(?P<value>\S+)", re.I),
    re.compile(rf"--?[a-z][\w-]{{0,40}}?(?:{WORDS})[ \t]+(?P<value>[^\s\"'-][^\s\"']*)", re.I),
    re.compile(r"\bredis-cli\b[^\n|;&]{0,200}?[ \t]-a[ \t]+(?P<value>[^\s\"']+)"),
    # Cookies that stand for a person.
    re.compile(
        r"\b(?:session(?:[-_]?id)?|sid|jsessionid|phpsessid|connect\.sid)="
        r"(?P<value>[^;\s\"',).\[(*+?][^;\s\"',)]*)",
        re.I,
    ),
    *BY_LOOKS,
)


class Span(NamedTuple):
    """Where a secret stands in a text."""

    start: int
    end: int


def spans(text: str) -> list[Span]:
    """Where the secrets of a text stand, in order, none within another."""
    found: list[Span] = []
    for span in sorted({span for span in _found(text) if span.end > span.start}):
        if found and span.start < found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def harmless(value: str) -> bool:
    """Whether a value refers to a secret, or says yes or no."""
    return bool(_REFERENCE.match(value)) or value.lower() in ("true", "false", "null", "none", "")


def is_option(argument: str) -> bool:
    """Whether the argument that follows this one on a command line is a secret."""
    return bool(_OPTION.fullmatch(argument))


_OPTION = re.compile(rf"--?[a-z][\w.-]*?(?:{WORDS})|--?(?:{WORDS})|--auth", re.IGNORECASE)


def _found(text: str) -> Iterator[Span]:
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            for name, value in match.groupdict().items():
                if value is not None and not harmless(value):
                    yield Span(*match.span(name))
    for match in encoded_private_keys(text):
        yield Span(*match.span())


def replaced(text: str, places: Sequence[Span], shown: Sequence[str]) -> str:
    """The text with something else at each of the places."""
    for place, instead in reversed(list(zip(places, shown, strict=True))):
        text = text[: place.start] + instead + text[place.end :]
    return text
