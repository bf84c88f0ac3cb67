"""Names of secrets: of fields, variables, headers, Helm values, files and options."""

from __future__ import annotations

import re

WORDS = (
    r"(?<!by)pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|authorization"
    r"|requirepass|masterauth"
    r"|(?:api|private|access|auth|signing|encryption|hmac|shared|license|account|secret|aes|master)"
    r"[-_]?key|access[-_]?key[-_]?id|client[-_]?secret|secret[-_]?key[-_]?base"
)
"""Names of secrets, in whatever case, where they end a name."""
HINT = re.compile(
    r"pass|pwd|\bpw\b|secret|token|credential|auth|key|kty|cookie|salt", re.IGNORECASE
)
"""What is somewhere in every text in which a name makes a secret of a value."""

_FILES = r"\.?dockerconfigjson|\.?dockercfg|htpasswd|\.pgpass|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519)"
_FILES += r"|(?:tls|ssl|ca|server|client|private)[-_.]key|session_ticket_keys|auth|pw|salt|bearer"
_VERSION = r"(?:[-_.]?(?:value|hash|old|new|previous|current|\d{1,3}))?"
_SECRET = re.compile(
    rf"(?:^|[-_.a-z0-9])(?:{WORDS})s?{_VERSION}$|^(?:{_FILES})$|[-_.](?:pw|salt|bearer)$"
    r"|(?-i:_AUTH$)",
    re.IGNORECASE,
)
_PAIRED = re.compile(
    rf"(?:{WORDS}|(?:^|_)KEY(?:$|_)|[._]auth$|(?:^|[-_.])(?:pw|salt|bearer)$)", re.IGNORECASE
)
_ABOUT = re.compile(
    r"tokens?[-_.]?(?:count|limit|total|used|type|ttl|lifetime|audience|issuer|ur[il]|endpoint)s?"
    r"|.*[-_.a-z](?:file|path|dir|directory|ref|ttl|lifetime|interval|expiry|expiration|length"
    r"|algorithm|enabled|name)$",
    re.IGNORECASE,
)
"""What is said of tokens and keys without one being in it."""
_PASSWORD = re.compile(
    rf"(?:pass(?:word|wd|phrase)?s?|pwd|secrets?|^auth|^pw){_VERSION}$", re.IGNORECASE
)
_EXISTING = re.compile(r"^existing\w*secret$", re.IGNORECASE)
_HOLDER = re.compile(
    r"(?:^|[-_.a-z0-9])(?:pass(?:word|wd)s?|tokens?|secrets?|credentials?|api[-_]?keys?)$",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"(?:^|[-_.]|(?<=[a-z])(?=(?-i:[A-Z])))(?:name|namespace|key|path|user|username|client|file"
    r"|header|type|kind|mode|aud|audience|issuer|id|ref|ur[il]|host|port|provider|unit|prefix|property"
    r"|engine|algorithm|format|description|apiversion|version|claim|scope|realm|label)s?$",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether the value of a field with this name is a secret."""
    return _SECRET.search(name) is not None and _EXISTING.search(name) is None


def pairs_secret(name: str) -> bool:
    """Whether the value that stands beside this name (of a variable, a header) is a secret."""
    return _PAIRED.search(_ABOUT.sub("", name)) is not None


def is_password(name: str) -> bool:
    """Whether also a number is a secret under this name: it is a count under others (`maxTokens`)."""
    return _PASSWORD.search(name) is not None


def holds_secrets(name: str) -> bool:
    """Whether a mapping with this name (`tokens`) holds secrets under names of its own."""
    return _HOLDER.search(name) is not None


def refers(name: str) -> bool:
    """Whether a field tells which secret is meant, or how it is used, rather than what it is."""
    return _REFERS.search(name) is not None
