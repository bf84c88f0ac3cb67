"""What proxies log: audit records and the access log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.mesh_config import access_log_fields
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Recorded, Watch
from lab.contracts.facts import TENANT, USER, Facts
from lab.exchange import Reply


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `audit` and `log`."""
    yield from _audit(facts)
    yield from _access_log(facts)


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
        "Each request is one line of JSON at each proxy, on standard output, with who asked, what, and"
        " what came of it; fields without a value are left out.",
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
