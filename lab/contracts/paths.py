"""Paths, methods, TLS: nothing gets past a policy by being written in another way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from lab.contracts.contract import CLIENT, DENIED, GATEWAY, NOT_REACHED, Call, Contract, Expect
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.exchange import Reply, Request, Tls

DOCUMENT = "security.md"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `path`, `method` and `tls`."""
    exposures = [
        (one, route, (route.methods or ("GET",))[0])
        for one, route in facts.catalogue.exposures
        if route.access == "token"
    ]
    public = next(route.path for _, route in facts.catalogue.exposures if route.login)
    yield Contract(
        "path.no-token",
        "Paths are judged after decoding and after double slashes and dot segments are resolved,"
        " and the service sees the path that was judged.",
        DOCUMENT,
        tuple(
            # 200 only where the path ends up on the public route itself: the judge looks.
            Call(
                CLIENT,
                facts.api(path, ("x-forwarded-for", f"198.19.{index}.{number}"), method=method),
                Expect((200, 400, 403, 404)),
            )
            for index, (_, route, method) in enumerate(exposures)
            for number, path in enumerate(_tricks(route.path, public), 1)
        ),
        partial(_stayed_public, public),
        watch=refused_at_gateway,
    )
    readable = [
        (one, route, method)
        for one, route, method in exposures
        if not any(not r.methods or method in r.methods for r in route.restricted)
    ]
    yield Contract(
        "path.normalised",
        "Paths are judged after decoding and after double slashes and dot segments are resolved,"
        " and the service sees the path that was judged.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(path, *facts.bearer(), method=method),
                Expect((200,), served_by=one.name, path=f"{route.path}/1"),
            )
            for one, route, method in readable
            for path in (
                f"//{route.path[1:]}//1",
                f"{route.path}/./1",
                f"{route.path}/x/../1",
                f"{public}/../..{route.path.removeprefix('/api')}/1",
                f"{route.path}%2f1",
            )
        ),
    )
    yield Contract(
        "path.resembling",
        "A path that only resembles a route (other case, a suffix, a path parameter) is not that"
        " route.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(path, *facts.bearer(), method=method), Expect((403, 404)))
            for _, route, method in readable
            for path in (
                route.path.upper(),
                f"{route.path}x/1",
                f"{route.path};a=b/1",
                route.path[:-1],
            )
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "path.internal",
        "`/metrics`, `/debug`, `/actuator`, `/stats` and `/config_dump` are refused at the gateway"
        " whatever is behind them.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(path, *sent), DENIED)
            for name in ("metrics", "debug", "actuator", "stats", "config_dump")
            for path in (f"/{name}", f"/{name}/x", f"//{name}", f"/x/../{name}")
            for sent in ((), facts.bearer())
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "method.unserved",
        "A method that a route does not serve is refused.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(f"{route.path}/1", *facts.bearer(), method=method), NOT_REACHED)
            for _, route in facts.catalogue.exposures
            if route.methods
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE")
            if method not in route.methods
        ),
        watch=refused_at_gateway,
    )
    yield from _tls(facts)


def _stayed_public(public: str, replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        seen = reply.echoed("URL") or "?"
        if reply.status == 200 and not (seen == public or seen.startswith(f"{public}/")):
            return f"{reply} without a token, the service saw {seen}"
    return None


def _tricks(path: str, public: str) -> Iterator[str]:
    """Ways to write a protected path, or to come to it by way of a public one."""
    tail = path.removeprefix("/")
    last = tail.rsplit("/", 1)[-1]
    parent = path[: -len(last)]
    yield from (f"//{tail}/1", f"{parent}/{last}/1", f"{parent}./{last}/1", f"{path}//1")
    yield from (f"{parent}x/../{last}/1", f"{parent}x/%2e%2e/{last}/1", f"{parent}%2e/{last}/1")
    yield from (f"{parent}x/..%2f{last}/1", f"{parent.rstrip('/')}%2f{last}/1")
    yield from (f"{public}/../{last}/1", f"{public}/..%2f{last}/1", f"{public}/%2e%2e/{last}/1")
    yield from (f"{public}/..;/{last}/1", f"{public}/..%5c{last}/1", f"{public}%2f..%2f{last}/1")
    yield from (f"{public}//..//{last}/1", f"{public}/%252e%252e/{last}/1")
    yield from (f"{public}/%252e%252e%252f{last}/1", f"{parent}%252e/{last}/1")
    yield from (f"{path}/", f"{path};x=1/1", f"{path}%00/1", path.upper(), f"{path}?x=/api/v1/auth")
    yield f"{parent}%{ord(last[0]):02x}{last[1:]}/1"


def _tls(facts: Facts) -> Iterator[Contract]:
    settings = facts.settings
    document = "edge.md"

    def ask(tls: Tls, host: str = settings.api_host) -> Request:
        return Request(f"{GATEWAY}:443", host, path="/health", tls=tls)

    old = [
        replace(facts.tls(host), minimum=version, maximum=version)
        for host in settings.public_hosts
        for version in ("1.0", "1.1")
    ]
    yield Contract(
        "tls.versions",
        "TLS below `gateway.tls.minVersion` is refused, and every version from there up to"
        " `maxVersion` is served.",
        document,
        tuple(Call(CLIENT, ask(replace(tls, ca=""), tls.server_name), Expect((0,))) for tls in old)
        + tuple(
            Call(
                CLIENT,
                ask(replace(facts.tls(settings.api_host), minimum=version, maximum=version)),
                Expect((200,)),
            )
            for version in ("1.2", "1.3")
        ),
        safe=True,
    )
    yield Contract(
        "tls.hosts",
        "Every public host is served with a certificate of its name, over HTTP/2 where the client"
        " offers it; other names get no connection.",
        document,
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
            Call(CLIENT, ask(Tls("evil.example"), "evil.example"), Expect((0,))),
            Call(
                CLIENT, ask(facts.tls(settings.api_host), "evil.example"), Expect((403, 404, 421))
            ),
        ),
        safe=True,
    )
    yield Contract(
        "tls.redirect",
        "Plain HTTP is redirected to HTTPS.",
        document,
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
