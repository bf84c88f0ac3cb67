"""The audit log: who did what to users, knowledge and documents, whether let through or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.gateway_workload import GATEWAY
from lab.contracts.addresses import ELSEWHERE, Header, forwarded, from_administration
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    UNAUTHENTICATED,
    Bounded,
    Call,
    Contract,
    Expect,
    Judge,
    Recorded,
    Watch,
)
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.world import NUMBERED
from lab.exchange import Reply
from model.service import Route, Service


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `audit`, and of `flood` what is not audited."""
    yield from _audit(facts)
    yield from _audit_alone(facts)


_OK = Expect((200,))


@dataclass(frozen=True)
class Audited:
    """What must be recorded of one call."""

    what: str
    """The call in a few words."""
    proxies: tuple[str, ...]
    """Who must have one record each, by the beginnings of their names."""
    fields: Mapping[str, object]
    """What each record says; None where it must say nothing."""


def _audit(facts: Facts) -> Iterator[Contract]:
    asked = [
        case
        for one, route in facts.catalogue.exposures
        for method in route.audit
        for case in _audited_cases(facts, one, route, method)
    ]
    yield Contract(
        "audit.recorded",
        "Every PUT and DELETE on users, knowledge and documents that comes to the policies leaves an"
        " audit record with who, tenant and what: at the gateway, also when a policy refuses it, and"
        " at the service that it is let through to.",
        "security.md",
        tuple(call for call, _ in asked),
        watch=audited([wanted for _, wanted in asked]),
    )
    route = next(route for _, route in facts.catalogue.exposures if route.audit)
    path, method = f"{route.path}/44", route.audit[-1]
    wrong, many = ("authorization", "Bearer wrong"), facts.settings.rate_limits.per_address.requests
    before = (
        "What is refused before the policies are asked leaves none: for an invalid token (401), for"
        " its User-Agent (403) or as a flood (429)."
    )
    yield Contract(
        "audit.before-policies",
        before,
        "security.md",
        (
            Call(CLIENT, facts.api(path, wrong, method=method), UNAUTHENTICATED),
            *(
                Call(CLIENT, facts.api(path, *facts.bearer(), agent, method=method), DENIED)
                for name in facts.settings.authorization.denied_user_agents
                for agent in (("user-agent", f"{NUMBERED} {name}/1.0"),)
            ),
        ),
        watch=Bounded(_not_audited()),
        settle=3.0,
    )
    flood = (wrong, ("x-forwarded-for", facts.flooding(30)))
    yield Contract(
        "flood.not-audited",
        before,
        "security.md",
        tuple(
            Call(CLIENT, facts.api(path, *flood, method=method, timeout=30.0), Expect((401, 429)))
            for _ in range(2 * many)
        ),
        judge=came(401, 429),
        watch=Bounded(_not_audited()),
        settle=3.0,
    )


def _audited_cases(
    facts: Facts, one: Service, route: Route, method: str
) -> Iterator[tuple[Call, Audited]]:
    """One that is let through, and every kind that a policy refuses."""
    names = facts.settings.authentication
    tenant, role = names.tenant.claim, names.role.claim
    path = f"{route.path}/42"
    roles = next(
        (rule.roles for rule in route.restricted if not rule.methods or method in rule.methods), ()
    )
    here = from_administration(facts)
    right = roles[0] if roles else "user"

    def case(
        what: str, status: int, who: Mapping[str, object], *sent: Header, address: Header | None
    ) -> tuple[Call, Audited]:
        asked = facts.api(
            f"{path}?secret=1", *sent, *((address,) if address else ()), method=method
        )
        proxies = (GATEWAY, one.name) if status == 200 else (GATEWAY,)
        fields = {"method": method, "path": path, "code": status, **who}
        served = Expect((status,), served_by=one.name if status == 200 else "")
        return Call(CLIENT, asked, served), Audited(f"{method} {path} {what}", proxies, fields)

    known = {"tenant_id": TENANT, "user_id": USER, "role": right}
    yield case(
        f"as {right}",
        200 if here or not roles else 403,
        known,
        *facts.bearer(**{role: right}),
        address=here,
    )
    yield case(
        "without a tenant",
        403,
        {**known, "tenant_id": None},
        *facts.bearer(**{role: right, tenant: None}),
        address=here,
    )
    yield case(
        "without a token", 403, dict.fromkeys(("tenant_id", "user_id", "role")), address=here
    )
    if roles:
        yield case(
            "with a role that may not",
            403,
            {**known, "role": "user"},
            *facts.bearer(),
            address=here,
        )
        yield case(
            "from an address that may not",
            403,
            known,
            *facts.bearer(**{role: right}),
            address=forwarded(facts, ELSEWHERE),
        )


def _audit_alone(facts: Facts) -> Iterator[Contract]:
    """Of one audited route: its record's fields, who is not believed, and what is not recorded."""
    route = next(route for _, route in facts.catalogue.exposures if "DELETE" in route.audit)
    path = f"{route.path}/43"
    claim, names = facts.settings.authentication.role.claim, facts.settings.authentication
    bearer, source = facts.bearer(**{claim: "admin"}), from_administration(facts)
    if source is None:
        return  # DELETE is refused everywhere then
    admin = source[1].split(",")[0]
    forged = tuple((name, "forged") for name in (
        names.tenant.header, names.user.header, names.role.header,
    ))  # fmt: skip
    yield Contract(
        "audit.fields",
        "An audit record says who (`tenant_id`, `user_id`, `role`, `token_subject`,"
        " `token_issuer`, `caller`, `client_address`), what (`method`, `path`) and what came of it"
        " (`code`, `code_details`), and how to follow it (`request_id`, `trace_id`).",
        "telemetry.md",
        (Call(CLIENT, facts.api(path, *bearer, source, method="DELETE"), _OK),),
        watch=_audit_fields(
            {
                "tenant_id": TENANT, "user_id": USER, "role": "admin", "token_subject": USER,
                "token_issuer": names.issuers[0].issuer, "client_address": admin,
                "method": "DELETE", "path": path, "code": 200,
            }
        ),
    )  # fmt: skip
    yield Contract(
        "audit.who",
        "Who is said by the verified token alone: what a client writes into headers is in no audit"
        " record.",
        "telemetry.md",
        (
            Call(CLIENT, facts.api(path, *forged, source, method="DELETE"), DENIED),
            Call(CLIENT, facts.api(path, *bearer, *forged, source, method="DELETE"), _OK),
        ),
        watch=_not_believed("forged"),
    )
    (_, token), *_ = bearer
    wrong = ("authorization", f"{token}x")
    yield Contract(
        "audit.nothing-else",
        "Nothing else is in the audit log: no other method, and no request whose token is refused"
        " as invalid (401), because that ends before RBAC.",
        "telemetry.md",
        (
            Call(CLIENT, facts.api(path, *bearer, source), Expect((200, 403))),
            Call(CLIENT, facts.api(path, wrong, source, method="DELETE"), Expect((401,))),
        ),
        watch=Bounded(_not_audited()),
        settle=3.0,
    )


def _audit_fields(wanted: Mapping[str, object]) -> Watch:
    always = {"code_details", "request_id", "trace_id", "time", "cluster"}

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        records = [line for line in recorded.lines[0] if line["log"] == "audit"]
        if not records:
            return "no audit record"
        for record in records:
            for name, value in wanted.items():
                if record.get(name) != value:
                    return f"{record['proxy']} says {name} {record.get(name)}, must be {value}"
            if missing := sorted(always - record.keys()):
                return f"the record of {record['proxy']} lacks {', '.join(missing)}"
        # The gateway's caller is a client without certificate; a service's is the gateway.
        callers = {str(record.get("caller")) for record in records}
        if not any(caller.endswith("/sa/istio-ingressgateway") for caller in callers):
            return f"no record says that the gateway called; callers are {sorted(callers)}"
        return None

    return watch


def _not_believed(forged: str) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for lines in recorded.lines:
            records = [line for line in lines if line["log"] == "audit"]
            if not records:
                return "no audit record"
            for record in records:
                for name, value in record.items():
                    if forged in str(value):
                        return f"{record['proxy']} recorded {name} {value}, which a client wrote"
        return None

    return watch


def _not_audited() -> Watch:
    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, lines in zip(replies, recorded.lines, strict=True):
            if not any(line["log"] == "access" for line in lines):
                return f"the request that was answered with {reply} is in no log"
            for line in lines:
                if line["log"] == "audit":
                    return f"{line['proxy']} has an audit record of {line.get('method')} {reply}"
        return None

    return watch


def audited(wanted: Sequence[Audited]) -> Watch:
    """Of each call exactly the proxies that must have a record have one, and it says the right."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for expected, lines in zip(wanted, recorded.lines, strict=True):
            records = [line for line in lines if line["log"] == "audit"]
            proxies = sorted(str(record["proxy"]) for record in records)
            of_each = [
                sum(proxy.startswith(f"{name}-") for proxy in proxies) for name in expected.proxies
            ]
            if len(proxies) != len(of_each) or set(of_each) != {1}:
                found = ", ".join(proxies) or "nobody"
                return f"{expected.what}: recorded by {found}, not by {expected.proxies}"
            for record in records:
                for name, value in expected.fields.items():
                    if record.get(name) != value:
                        return (
                            f"{expected.what}: the record of {record['proxy']} says {name}"
                            f" {record.get(name)}, must be {value}"
                        )
        return None if wanted else "nothing is audited"

    return watch


def came(*statuses: int) -> Judge:
    """Each of these statuses came at least once."""

    def judge(replies: Sequence[Reply]) -> str | None:
        missing = set(statuses) - {reply.status for reply in replies}
        return f"no answer was {', '.join(map(str, sorted(missing)))}" if missing else None

    return judge
