"""What the mesh writes down: audit records, the access log, traces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

from components.mesh_config import access_log_fields
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Recorded, Watch
from lab.contracts.facts import TENANT, USER, Facts
from lab.exchange import Reply, Request
from model.service import Service

_TRACED = 160
_DEVIATIONS = 4.5
"""Standard deviations that chance is allowed: once in 150,000 runs it is more."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `audit`, `log` and `trace`."""
    yield from _audit(facts)
    yield from _access_log(facts)
    yield from _traces(facts)


def _audit(facts: Facts) -> Iterator[Contract]:
    claim = facts.settings.authentication.role.claim
    address = facts.settings.authorization.admin_addresses[0].split("/")[0]
    calls, wanted = [], []
    for one, route in facts.catalogue.exposures:
        for method in route.audit:
            path = f"{route.path}/42"
            for role, expect, sent in (
                ("admin", (200,), address),
                ("user", (200, 403), "198.18.9.1"),
            ):
                bearer = facts.bearer(**{claim: role})
                request = facts.api(
                    f"{path}?secret=1", *bearer, ("x-forwarded-for", sent), method=method
                )
                calls.append(Call(CLIENT, request, Expect(expect)))
                wanted.append({"method": method, "path": path, "role": role, "service": one.name})
    yield Contract(
        "audit.recorded",
        "Every PUT and DELETE on users, knowledge and documents leaves an audit record with who,"
        " tenant and what, also when it is refused.",
        "security.md",
        tuple(calls),
        watch=_audited(wanted),
    )


def _audited(wanted: Sequence[dict[str, str]]) -> Watch:
    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, expected, lines in zip(replies, wanted, recorded.lines, strict=True):
            what = f"{expected['method']} {expected['path']} as {expected['role']}"
            records = [line for line in lines if line["log"] == "audit"]
            if not records:
                return f"{what}: no audit record"
            for record in records:
                told = {key: record.get(key) for key in ("method", "path", "tenant_id", "user_id")}
                right = {
                    "method": expected["method"], "path": expected["path"],
                    "tenant_id": TENANT, "user_id": USER,
                }  # fmt: skip
                if told != right:
                    return f"{what}: the record of {record['proxy']} says {told}"
            at_gateway = [r for r in records if "ingressgateway" in r["proxy"]]
            if not at_gateway and not any(expected["service"] in r["proxy"] for r in records):
                return f"{what}: recorded by {[r['proxy'] for r in records]} only"
            if all(record.get("code") != reply.status for record in records):
                return f"{what}: answered {reply.status}, records say otherwise"
        return None

    return watch


def _access_log(facts: Facts) -> Iterator[Contract]:
    yield Contract(
        "log.fields",
        "One line of JSON for each request at each proxy, on standard output;",
        "telemetry.md",
        (
            Call(CLIENT, facts.api("/api/v1/notification/1?token=secret", *facts.bearer()), _OK),
            Call(CLIENT, facts.api("/api/v1/users/1"), Expect((403,))),
        ),
        watch=_logged(facts),
    )
    yield Contract(
        "log.credentials",
        "No credential is logged: no `Authorization`, no cookie, and of the path only what stands"
        " before the query, since browsers put tokens of WebSockets there.",
        "telemetry.md",
        (
            Call(
                CLIENT,
                facts.api(
                    "/api/v1/notification/1?token=secret-query",
                    *facts.bearer(),
                    ("cookie", "session=secret-cookie"),
                ),
                _OK,
            ),
        ),
        watch=_without("secret-query", "secret-cookie", "Bearer", "eyJ"),
    )


_OK = Expect((200,))


def _logged(facts: Facts) -> Watch:
    known = set(
        access_log_fields(facts.settings.authentication, facts.settings.control_plane.cluster)
    )
    always = {
        "log", "time", "cluster", "request_id", "method", "authority", "path", "protocol", "route",
        "code", "code_details", "bytes_received", "bytes_sent", "duration_ms", "forwarded_for",
        "peer_address", "user_agent",
    }  # fmt: skip

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        passed, refused = recorded.lines
        proxies = sorted(line["proxy"].split("-")[0] for line in passed if line["log"] == "access")
        if proxies != ["istio", "notification"]:
            return f"the request that passed was logged by {proxies}"
        for line in passed:
            if missing := sorted(always - line.keys()):
                return f"{line['proxy']}: the line lacks {', '.join(missing)}"
            if strange := sorted(line.keys() - known - {"proxy"}):
                return f"{line['proxy']}: the line has {', '.join(strange)} as well"
            if (line.get("tenant_id"), line.get("user_id")) != (TENANT, USER):
                return (
                    f"{line['proxy']}: tenant {line.get('tenant_id')}, user {line.get('user_id')}"
                )
        if len({line["request_id"] for line in passed}) != 1:
            return "gateway and service logged different request ids"
        if [line["code"] for line in refused] != [403]:
            return f"the refused request was logged {len(refused)} times"
        return None

    return watch


def _without(*secrets: str) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        lines = [line for found in recorded.lines for line in found]
        if not lines:
            return "nothing was logged"
        for line in lines:
            for secret in secrets:
                if secret in str(dict(line)):
                    return f"{line['proxy']} logged {secret}"
        return None

    return watch


def _share(facts: Facts, one: Service) -> float:
    sampling = facts.settings.telemetry.sampling
    shares = [sampling.default]
    if one.ai:
        shares.append(sampling.ai)
    if one.websocket:
        shares.append(sampling.websocket)
    return float(max(shares)) / 100


def _traces(facts: Facts) -> Iterator[Contract]:
    groups: dict[float, tuple[Service, Request]] = {}
    for one, route in facts.catalogue.exposures:
        readable = not route.methods or "GET" in route.methods
        restricted = any(not r.methods or "GET" in r.methods for r in route.restricted)
        if route.access == "token" and readable and not restricted and not route.streaming:
            groups.setdefault(_share(facts, one), (one, facts.api(f"{route.path}/1")))
    for share, (one, request) in groups.items():
        yield Contract(
            f"trace.share.{one.name}",
            "The share holds for everything that a service is asked, not for single paths.",
            "telemetry.md",
            _many(facts, request, _TRACED),
            watch=_sampled(share),
            settle=6.0,
        )
    one, request = groups[max(groups)]
    yield Contract(
        "trace.whole",
        "The id goes with the request, so the gateway and the proxies behind it choose the same"
        " requests, and a trace is kept whole or not at all.",
        "telemetry.md",
        _many(facts, request, 40),
        watch=_whole(one.name),
        settle=6.0,
    )
    least = groups[min(groups)][1]
    parent = "0af7651916cd43dd8448eb211c80319c"
    yield Contract(
        "trace.clients",
        "The gateway takes `traceparent`, `tracestate`, `x-client-trace-id` and"
        " `x-envoy-force-trace` off a request before it decides.",
        "telemetry.md",
        _many(
            facts,
            least,
            60,
            ("traceparent", f"00-{parent}-b7ad6b7169203331-01"),
            ("tracestate", "evil=1"),
            ("x-client-trace-id", "evil"),
            ("x-envoy-force-trace", "true"),
        ),
        watch=_own_traces(parent, min(groups)),
        settle=6.0,
    )


def _many(
    facts: Facts, request: Request, number: int, *headers: tuple[str, str]
) -> tuple[Call, ...]:
    tenant = facts.settings.authentication.tenant.claim
    return tuple(
        Call(
            CLIENT,
            facts.api(
                request.path,
                *facts.bearer(**{tenant: f"traced-{index % 20}"}),
                *headers,
                timeout=30.0,
            ),
            _OK,
        )
        for index in range(number)
    )


def _ids(recorded: Recorded) -> set[str]:
    return {
        line["request_id"]
        for lines in recorded.lines
        for line in lines
        if line["log"] == "access" and line.get("request_id")
    }


def _kept(recorded: Recorded) -> dict[str, list[str]]:
    """For each request that was traced the proxies that have a span of it."""
    ids = _ids(recorded)
    found: dict[str, list[str]] = {}
    for span in recorded.spans:
        request_id = span["tags"].get("guid:x-request-id")
        if request_id in ids:
            found.setdefault(request_id, []).append(span["service"])
    return found


def _sampled(share: float) -> Watch:
    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        total, kept = len(replies), len(_kept(recorded))
        if len(_ids(recorded)) < total:
            return f"{len(_ids(recorded))} of {total} requests are in the access log"
        allowed = _DEVIATIONS * sqrt(total * share * (1 - share))
        if abs(kept - total * share) > allowed:
            return f"{kept} of {total} were traced, must be {total * share:.0f} ± {allowed:.0f}"
        return None

    return watch


def _whole(name: str) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        kept = _kept(recorded)
        if not kept:
            return "no request was traced"
        for request_id, services in kept.items():
            at_gateway = any("ingressgateway" in service for service in services)
            at_service = any(service.startswith(name) for service in services)
            if not (at_gateway and at_service):
                return f"request {request_id} has spans of {sorted(services)} only"
        traces: dict[str, set[str]] = {}
        for span in recorded.spans:
            if (request_id := span["tags"].get("guid:x-request-id")) in kept:
                traces.setdefault(request_id, set()).add(span["trace"])
        if torn := [one for one, found in traces.items() if len(found) > 1]:
            return f"{len(torn)} requests are in several traces"
        return None

    return watch


def _own_traces(parent: str, share: float) -> Watch:
    sampled = _sampled(share)

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        if any(span["trace"] == parent for span in recorded.spans):
            return "a client's trace was joined"
        return sampled(replies, recorded)

    return watch
