"""Texts that are credentials by their looks, whatever they are called."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

BY_LOOKS = (
    # JSON web tokens.
    re.compile(r"\b(?P<value>eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*)"),
    # Prefixes that issuers give their tokens so that they are found where they should not be.
    re.compile(
        r"\b(?P<value>gh[pousr]_\w{12,}|github_pat_\w{12,}|glpat-[\w-]{12,}|A[KS]IA[0-9A-Z]{12,}"
        r"|xox[abeprs]-[\w-]{8,}|[sr]k_(?:live|test)_\w{8,}|sk-[\w-]{12,}|AIza[\w-]{30,}"
        r"|pul-[0-9a-f]{40}|hf_\w{20,}|npm_\w{30,}|dckr_pat_[\w-]{20,}|ya29\.[\w-]{20,}"
        r"|SG\.[\w-]{16,}\.[\w-]{16,})"
    ),
    re.compile(r"\bhooks\.slack\.com/services/(?P<value>[\w/]+)"),
)
"""The group `value` of each is the credential."""
_ENCODED = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=\r\n]+")
"""What `-----BEGIN ` looks like in base64."""


def encoded_private_keys(text: str) -> Iterator[re.Match[str]]:
    """Private keys in PEM that were encoded once more, as Secrets and variables hold them."""
    return (match for match in _ENCODED.finditer(text) if _is_private(match[0][:64]))


def _is_private(head: str) -> bool:
    try:
        return b"PRIVATE KEY" in base64.b64decode(head[: len(head) // 4 * 4])
    except binascii.Error:
        return False
