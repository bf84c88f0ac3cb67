"""Secrets inside longer texts: configuration files, addresses, command lines, keys, tokens.

Each pattern has a group `value`: what must not be shown. None of them looks ahead or back without
bound, so that a long text takes no longer than it is long.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from diff.secret_names import WORDS
from semantics.credentials import BY_LOOKS

_REFERENCE = re.compile(
    r"^(?:\$\{[^}]*\}|\$\([^)]*\)|\$[A-Z_]+|\$http_\w+|\{\{.*\}\}|%[A-Z_(].*%"
    # A path of a file, where systems and containers have theirs.
    r"|/(?:etc|var|run|usr|opt|mnt|tmp|home|root|secrets?|certs?|config|app)/[\w./-]+)$"
)
_IS = r"[ \t]*(?:=>|[=!~:]=|[:=])[ \t]*"
"""Between a name and its value, in the languages that people configure things in."""
_CALL = r"[A-Za-z_][\w.]*(?::\w+)?\((?:[\"')]|\w+\))"
"""The beginning of a call: code that fetches a value."""
_SETTING = re.compile(
    rf"(?:{WORDS})(?:\\?[\"'])?{_IS}"
    r"(?:\\[\"'](?P<escaped>[^\"'\\\n]+)"
    r"|\"{3}(?P<long>[^\"]{1,4000})"
    r"|\"(?P<double>(?:[^\"\\\n]|\\.)+)|'(?P<single>(?:[^'\\\n]|''|\\.)+)"
    r"|[|>][-+0-9]*[ \t]*\n(?P<block>(?:[ \t]+[^\n]*(?:\n|$))+)"
    rf"|(?!(?:Bearer|Basic)\b|{_CALL})(?P<plain>[^\s\"',;}}&|>\[{{]"
    r"(?:[^\s\"',;&}]|[,;&](?!\s|$|[\w.-]{1,40}[=:]))*))",
    re.IGNORECASE,
)
_SCHEME = r"[a-z][a-z0-9+.-]{0,20}://"
_SHELL = r"[^\n|;&]{0,200}?[ \t]"
"""What may stand between a command and one of its options."""
_PATTERNS = (
    _SETTING,
    # A JSON file of registry credentials.
    re.compile(r"\\?[\"']auth\\?[\"']\s*:\s*\\?[\"'](?P<value>[^\"'\\]+)"),
    # XML, Java's properties with a space, a header that a program or a proxy sets.
    re.compile(rf"<[\w:.-]{{0,60}}?(?:{WORDS})>(?P<value>[^<]+)", re.I),
    re.compile(r"(?m)^[ \t]*[\w.-]{0,60}?passw(?:or)?d[ \t]+(?P<value>\S+)[ \t]*$", re.I),
    re.compile(
        rf"\([ \t]*[\"'][\w-]{{0,60}}?(?:{WORDS})[\"'][ \t]*,[ \t]*[\"'](?P<value>[^\"'\n]+)", re.I
    ),
    re.compile(
        rf"(?:set|add)_header[ \t]+[\w-]{{0,60}}?(?:{WORDS})[ \t]+[\"']?(?P<value>[^\"';\n]+)", re.I
    ),
    # scheme://user:password@host, up to the last @ of what may be the authority.
    re.compile(rf"{_SCHEME}[^/\s:\"']{{0,400}}:(?P<value>[^/\s\"]+)(?=@)", re.I),
    re.compile(rf"{_SCHEME}(?P<value>[^/\s:@\"']{{16,400}})(?=@)", re.I),
    re.compile(r"https?://(?P<value>[^/\s:@\"']{8,400})(?=@)", re.I),
    re.compile(r"\b[\w.-]{1,60}:(?P<value>[^\s:@/\"']+)@(?:tcp|unix)\("),
    # Credentials in a query.
    re.compile(
        r"[?&](?:[\w-]{0,40}?(?:sig|signature|apikey)|key|code|x-amz-(?:credential|security-token))"
        r"=(?P<value>[^&\s\"'#]{8,})",
        re.I,
    ),
    re.compile(
        r"\b(?:Bearer\s+|Basic\s+(?=(?-i:[a-z]{0,400}[^a-z\s,.;])))"  # "Basic authentication" is prose.
        r"(?P<value>[A-Za-z0-9._~+/=-]{8,})",
        re.I,
    ),
    re.compile(
        r"authorization\\?[\"']?[ \t]*[:=,]?[ \t]*\\?[\"']?"
        r"(?:Bearer|Basic|Token|Api-?Key|Digest|Negotiate|Key|Splunk)[ \t]+"
        r"(?P<value>[^\"'\\\s;]+)",
        re.I,
    ),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----(?P<value>.*?)(?=-----END|\Z)", re.S),
    # Redis: its configuration's own words.
    re.compile(
        r"\b(?:requirepass|masterauth|key-file-pass|auth-pass[ \t]+\S+)[ \t]+[\"']?"
        r"(?P<value>[^\s\"']+)",
        re.I,
    ),
    re.compile(r"\blogin\s+[^\s\"']+\s+password\s+(?P<value>\S+)", re.I),
    # Postgres' password file; password files of web servers.
    re.compile(
        r"(?m)^[\w.*-]{1,253}:(?:\d{4,5}|\*):[^:\n]{1,63}:[^:\n]{1,63}:(?P<value>[^\s:]+)[ \t]*$"
    ),
    re.compile(r"(?P<value>\$(?:2[abxy]|apr1|[156]|argon2(?:id|i|d))\$[./\w$=,+-]{8,})"),
    re.compile(r"(?P<value>\{S?SHA\}[\w+/=]{8,})"),
    # Command lines.
    re.compile(
        rf"(?<![\w-])--?(?:[a-z][\w-]{{0,40}}?)?(?:{WORDS})[ \t]+(?:[\"'](?P<quoted>[^\"'\n]+)"
        r"|(?P<value>[^\s\"'-][^\s\"']*))",
        re.I,
    ),
    re.compile(rf"\bredis-cli\b{_SHELL}-a[ \t]+[\"']?(?P<value>[^\s\"']+)"),
    re.compile(rf"\bcurl\b{_SHELL}(?:-u|--user)[ \t=]*[\"']?[^\s:\"']+:(?P<value>[^\s\"']+)"),
    re.compile(rf"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b{_SHELL}-p(?P<value>[^\s\"']+)"),
    re.compile(rf"\bsshpass\b{_SHELL}-p[ \t]*[\"']?(?P<value>[^\s\"']+)"),
    re.compile(r"(?<![A-Z])[A-Z][A-Z_]{0,60}_AUTH=[\"']?(?P<value>[^\s\"']+)"),
    *BY_LOOKS,
    re.compile(
        r"\b(?P<value>xapp-[\w-]{10,}|whsec_\w{16,}|hv[sb]\.[\w-]{20,}|AGE-SECRET-KEY-1[0-9A-Z]{20,})"
    ),
    re.compile(r"\bdiscord(?:app)?\.com/api/webhooks/(?P<value>[\w/-]+)"),
)
_COOKIE_VALUE = r"(?P<value>[^;\s\"',).\[(*+?][^;\s\"',)]*)"
_SESSION = re.compile(
    rf"(?<![A-Za-z])(?:session(?:[-_]?id)?|sid|jsessionid|phpsessid|connect\.sid|jwt)="
    rf"{_COOKIE_VALUE}",
    re.IGNORECASE,
)
"""Cookies that stand for a person, in any text."""
_COOKIE = re.compile(
    rf"(?:sess(?:ion)?(?:[-_]?id)?|sid|sessid|token|jwt|auth)={_COOKIE_VALUE}", re.IGNORECASE
)
"""The same where it is known that they are cookies: more names tell."""
_USER = re.compile(r"(?m)^[ \t]*user[ \t]+\S+[ \t][^\n]*")
_USERS_PASSWORD = re.compile(r"[ \t](?:>(?P<value>\S+)|#(?P<hash>[0-9a-f]{64}))")
"""Of a line of Redis' user list: each of its passwords."""
_ENCODED = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
_ENCODED_ON = re.compile(r"(?:\r?\n[ \t]*[A-Za-z0-9+/=]{4,}(?![^\r\n]))+")
"""The lines with which what is encoded goes on."""
_PRIVATE = b"PRIVATE KEY-----"


class Span(NamedTuple):
    """Where a secret stands in a text."""

    start: int
    end: int


def spans(text: str) -> list[Span]:
    """Where the secrets of a text stand, in order, none within another."""
    return ordered(_found(text))


def harmless(value: str) -> bool:
    """Whether a value refers to a secret, or says yes or no."""
    return bool(_REFERENCE.match(value)) or value.lower() in (
        "true",
        "false",
        "null",
        "none",
        "nil",
        "",
    )


_OPTION = re.compile(rf"--?[a-z][\w.-]*?(?:{WORDS})|--?(?:{WORDS})|--auth", re.IGNORECASE)
_LETTERS = {"redis-cli": ("-a",), "sshpass": ("-p",), "curl": ("-u", "--user")}
"""Options whose names don't tell, by the command that takes a secret with them."""


def follows_option(arguments: Sequence[object], index: int) -> bool:
    """Whether one of the arguments of a command line is the secret of the option before it."""
    before = arguments[index - 1] if index else None
    if not isinstance(before, str) or not isinstance(arguments[index], str | int):
        return False
    if _OPTION.fullmatch(before):
        return True
    commands = (str(each).rpartition("/")[2] for each in arguments[: index - 1])
    return any(before in _LETTERS.get(command, ()) for command in commands)


def cookie_spans(text: str) -> list[Span]:
    """Where secrets stand in the value of a cookie header, or in a match on it."""
    return ordered((*_matches(_COOKIE, text), *_found(text)))


def ordered(found: Iterable[Span]) -> list[Span]:
    """Spans in order, those which overlap made one, empty ones left out."""
    merged: list[Span] = []
    for span in sorted({span for span in found if span.end > span.start}):
        if merged and span.start < merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _found(text: str) -> Iterator[Span]:
    for pattern in (*_PATTERNS, _SESSION):
        yield from _matches(pattern, text)
    for line in _USER.finditer(text):
        for span in _matches(_USERS_PASSWORD, line[0]):
            yield Span(line.start() + span.start, line.start() + span.end)
    yield from _encoded(text)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        for name, value in match.groupdict().items():
            if value is not None and not harmless(value):
                yield Span(*match.span(name))


def _encoded(text: str) -> Iterator[Span]:
    """What is encoded in base64 and holds a private key, or a text with secrets."""
    for match in _ENCODED.finditer(text):
        decoded = _decoded(match[0])
        if _PRIVATE in decoded:
            on = _ENCODED_ON.match(text, match.end())
            yield Span(match.start(), on.end() if on else match.end())
            continue
        try:
            inner = decoded.decode()
        except UnicodeDecodeError:
            continue
        if spans(inner):
            yield Span(*match.span())


def _decoded(encoded: str) -> bytes:
    bare = encoded.rstrip("=")
    try:
        # What is cut off within four characters still tells what the rest is.
        return base64.b64decode(bare + "=" * (-len(bare) % 4) if len(bare) % 4 != 1 else bare[:-1])
    except binascii.Error:
        return b""


def replaced(text: str, places: Sequence[Span], shown: Sequence[str]) -> str:
    """The text with something else at each of the places, which are in order."""
    parts: list[str] = []
    at = 0
    for place, instead in zip(places, shown, strict=True):
        parts += (text[at : place.start], instead)
        at = place.end
    return "".join((*parts, text[at:]))
