"""The small value types that settings and catalogue are written in, each with its own check.

A value that passes here is a value Istio accepts: durations in Istio's notation, host names
without ports, CIDR blocks, cipher suites that Envoy knows.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


class Model(BaseModel):
    """Base of everything in `model/`: immutable, and a key nobody declared is an error.

    Fields are snake_case in Python and camelCase in a stack file, as Istio's own are. Nothing is
    converted: `"5"` and `true` are no numbers, `"no"` is no boolean.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?"
)


def seconds(duration: str) -> Decimal:
    """The length of an Istio duration (`1h30m`, `0.5s`, `250ms`) in seconds.

    Raises:
        ValueError: the text is not such a duration.
    """
    match = _DURATION.fullmatch(duration)
    if not duration or match is None:
        raise ValueError(f"{duration!r} is not a duration; write it like 250ms, 30s, 5m or 1h")
    hours, minutes, secs, millis = (Decimal(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000


def _duration(value: str) -> str:
    length = seconds(value)
    if length < Decimal("0.001"):
        raise ValueError(f"{value!r} is too short; Istio's shortest duration is 1ms")
    if length > 86_400 * 365:
        raise ValueError(f"{value!r} is longer than a year")
    if length % Decimal("0.001"):
        raise ValueError(f"{value!r} is finer than a millisecond")
    return value


_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"


def _host(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})+", value):
        raise ValueError(
            f"{value!r} is not a host name; write a full name in lower case, without port,"
            " scheme or wildcard, like api.example.com"
        )
    return value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"[1-9]\d{0,4}", port) or int(port) > 65535:
        raise ValueError(f"{value!r} has no port from 1 to 65535; write HOST:PORT")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        _host(host)
    return value


def _name(value: str) -> str:
    if not re.fullmatch(_LABEL, value):
        raise ValueError(
            f"{value!r} is not a Kubernetes name: at most 63 lower-case letters, digits"
            " and dashes, starting and ending with a letter or digit"
        )
    return value


def _cidr(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=True)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is not an address or CIDR block ({error}); write 203.0.113.7 or 203.0.113.0/24"
        ) from None
    if network.prefixlen == 0:
        raise ValueError(f"{value!r} covers every address, so it is no list; leave the list empty")
    return value


def _origin(value: str) -> str:
    match = re.fullmatch(r"https?://([^/:]+)(?::([0-9]{1,5}))?", value)
    if match is None:
        raise ValueError(
            f"{value!r} is not an origin; write scheme and host, like https://app.example.com"
        )
    if match[1] != "localhost":
        _host(match[1])
    _port(value, match[2])
    return value


def _url(value: str) -> str:
    match = re.fullmatch(r"https?://([^/:]+)(?::(\d{1,5}))?(/[^\s]*)?", value)
    if match is None:
        raise ValueError(f"{value!r} is not an http(s) URL, like https://id.example.com/keys.json")
    _host(match[1])
    _port(value, match[2])
    return value


def _port(value: str, number: str | None) -> None:
    if number and not 1 <= int(number) <= 65_535:
        raise ValueError(f"{value!r} has port {number}; a port is between 1 and 65535")


def _path(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", value) or "/." in value:
        raise ValueError(
            f"{value!r} is not a path prefix; write /segment/segment with no slash at the end,"
            " no dot segment, no wildcard and nothing percent-encoded"
        )
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value):
        raise ValueError(f"{value!r} is not a header name in lower case, like x-tenant-id")
    return value


def _claim(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise ValueError(f"{value!r} is not the name of a top-level JWT claim, like tenant_id")
    return value


def _account(value: str) -> str:
    namespace, separator, name = value.partition("/")
    if not separator:
        raise ValueError(f"{value!r} is not a service account; write namespace/name")
    _name(namespace)
    _name(name)
    return value


Duration = Annotated[str, AfterValidator(_duration)]
"""A length of time as Istio writes it: `250ms`, `30s`, `5m`, `1h`; at least one millisecond."""
Host = Annotated[str, AfterValidator(_host)]
"""A full host name without port or wildcard."""
Name = Annotated[str, AfterValidator(_name)]
"""A Kubernetes object name (RFC 1123 label)."""
Cidr = Annotated[str, AfterValidator(_cidr)]
"""One address or one CIDR block with no host bits set."""
Origin = Annotated[str, AfterValidator(_origin)]
"""A web origin for CORS: scheme, host and, where it is not the default, port."""
Url = Annotated[str, AfterValidator(_url)]
"""An http(s) URL with a full host name."""
Path = Annotated[str, AfterValidator(_path)]
"""A path prefix of whole segments: `/api/v1/users` covers `/api/v1/users/7`, not `/api/v1/users-old`."""
Header = Annotated[str, AfterValidator(_header)]
"""An HTTP header name in lower case."""
Claim = Annotated[str, AfterValidator(_claim)]
"""The name of a top-level JWT claim."""
ServiceAccountRef = Annotated[str, AfterValidator(_account)]
"""A service account as `namespace/name`."""
Image = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9._/-]*(:\d+/[a-z0-9._/-]+)?(:[\w.-]+|@sha256:[0-9a-f]{64})$"),
]
"""A container image with registry, and with a tag or digest: what runs must not depend on the day."""
Address = Annotated[str, AfterValidator(_address)]
"""Where something outside listens: `HOST:PORT`."""
PortNumber = Annotated[int, Field(ge=1, le=65535, strict=True)]
Percentage = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SAFE_METHODS: tuple[Method, ...] = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110, 9.2.1), so that repeating them is harmless."""

CipherSuite = Literal[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
]
"""Forward-secret AEAD suites of TLS 1.2; TLS 1.3 has its own and they are always on.

Source: https://istio.io/latest/docs/reference/config/networking/gateway/#ServerTLSSettings
"""
TlsVersion = Literal["TLSV1_2", "TLSV1_3"]
