"""TLS at the gateway: versions, names, and the way from plain HTTP to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.contract import CLIENT, GATEWAY, REFUSED, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request, Tls, TlsVersion
from model.settings import Tls as PublicTls

DOCUMENT = "edge.md"
_PUBLIC = Expect((200, 403, 404))
"""Whatever a host answers to a client without token: TLS was spoken."""
_ALERT, _WAITED = "alert", "Timeout"
_VERSIONS: tuple[TlsVersion, ...] = ("1.0", "1.1", "1.2", "1.3")


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `tls`."""
    settings = facts.settings

    def ask(tls: Tls, host: str = settings.api_host) -> Request:
        return Request(f"{GATEWAY}:443", host, path="/health", tls=tls)

    tried = [
        (replace(facts.tls(host), minimum=version, maximum=version), served)
        for host in settings.public_hosts
        for version, served in _versions(settings.gateway.tls)
    ]
    yield Contract(
        "tls.versions",
        "TLS below `gateway.tls.minVersion` is refused, and every version from there up to"
        " `maxVersion` is served.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                ask(tls if served else replace(tls, ca=""), tls.server_name),
                _PUBLIC if served else REFUSED,
            )
            for tls, served in tried
        ),
        spoken([(tls.maximum, served) for tls, served in tried]),
        safe=True,
    )
    yield Contract(
        "tls.hosts",
        "Every public host is served with a certificate of its name, over HTTP/2 where the client"
        " offers it; other names get no connection, nor does a client that names none.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                ask(replace(facts.tls(host), alpn=alpn), host),
                Expect((200, 403, 404), protocol=protocol),
            )
            for host in settings.public_hosts
            for alpn, protocol in ((("h2", "http/1.1"), "HTTP/2"), (("http/1.1",), "HTTP/1.1"))
        )
        + (
            Call(CLIENT, ask(Tls("evil.example"), "evil.example"), REFUSED),
            *(Call(CLIENT, ask(Tls(""), host), REFUSED) for host in settings.public_hosts),
            Call(
                CLIENT, ask(facts.tls(settings.api_host), "evil.example"), Expect((403, 404, 421))
            ),
        ),
        ended_by_server,
        safe=True,
    )
    yield Contract(
        "tls.redirect",
        "Plain HTTP is redirected to HTTPS.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                Request(f"{GATEWAY}:80", host, path="/health"),
                Expect((301, 308), headers=(("location", f"https://{host}/health"),)),
            )
            for host in settings.public_hosts
        ),
        safe=True,
    )


def _versions(tls: PublicTls) -> Iterator[tuple[TlsVersion, bool]]:
    """Every version, and whether the gateway serves it."""
    for version in _VERSIONS:
        name = f"TLSV{version.replace('.', '_')}"
        yield version, tls.min_version <= name <= tls.max_version


def spoken(versions: Sequence[tuple[str, bool]]) -> Judge:
    """What is served is of the version asked for; what is refused, the server refused with an alert.

    A client that can't speak a version by itself, or waits in vain, has shown nothing.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        if not any(served for _, served in versions):
            return "no version is served"
        for (version, served), reply in zip(versions, replies, strict=True):
            if served and reply.tls_version != f"TLSv{version}":
                return f"TLS {version} was asked for, {reply.tls_version or 'none'} was spoken"
            if not served and _ALERT not in reply.error.lower():
                return f"TLS {version} was not refused with an alert: {reply.error}"
        return None

    return judge


def ended_by_server(replies: Sequence[Reply]) -> str | None:
    """No client waited in vain: where there is no connection, the server has ended it."""
    waited = [reply.error for reply in replies if not reply.status and _WAITED in reply.error]
    return f"a client was left waiting: {waited[0]}" if waited else None
