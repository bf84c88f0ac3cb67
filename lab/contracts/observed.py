"""What proxies log: audit records and the access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from components.gateway_workload import GATEWAY
from components.mesh_config import access_log_fields
from components.request_fields import (
    CONVERSATION_HEADER,
    MODEL_HEADER,
    SESSION_HEADER,
    TOKENS_HEADER,
)
from lab.contracts.access import account, http_port
from lab.contracts.access import request as access_request
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
    Line,
    Recorded,
    Watch,
    service,
)
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.gateway_routes import GatewayRoute, gateway_routes
from lab.contracts.spans import pairs
from lab.contracts.ways_in import sockets
from lab.contracts.world import NUMBERED
from lab.exchange import Reply, Request
from model.service import Route, Service


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `audit` and `log`."""
    yield from _audit(facts)
    yield from _audit_alone(facts)
    yield from _access_log(facts)


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
        watch=_not_audited(),
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
        watch=_not_audited(),
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


def _access_log(facts: Facts) -> Iterator[Contract]:
    calls, lines = [], []
    for call, wanted in (*_from_outside(facts), *_from_inside(facts), *_unanswered(facts)):
        calls.append(call)
        lines.append(wanted)
    yield Contract(
        "log.fields",
        "Each request is one line of JSON at each proxy, on standard output, with who asked, what, and"
        " what came of it; fields without a value are left out.",
        "telemetry.md",
        tuple(calls),
        watch=Bounded(logged_as(lines, _known(facts))),
        settle=2.0,
    )
    secrets = ("secret-query", "secret-cookie", "Bearer", "eyJ")
    one, route = next((one, route) for one, route in facts.readable() if not route.streaming)
    cookie = ("cookie", "session=secret-cookie")
    (_, bearer), *_ = facts.bearer()
    token = bearer.removeprefix("Bearer ")
    asked = [
        (one.name, facts.api(f"{route.path}/1?token=secret-query", *facts.bearer(), cookie), _OK),
        *(
            (
                way.service.name,
                # As browsers do, which can't send headers with a WebSocket.
                replace(asked, path=f"{asked.path}?token=secret-query&access_token={token}"),
                way.served,
            )
            for way in sockets(facts)
            for asked in [way.ask(*facts.bearer(), cookie)]
        ),
    ]
    yield Contract(
        "log.credentials",
        "No credential is logged: no `Authorization`, no cookie, and of the path only what stands"
        " before the query, since browsers put tokens of WebSockets there.",
        "telemetry.md",
        tuple(Call(CLIENT, request, expect) for _, request, expect in asked),
        watch=without(secrets, [name for name, _, _ in asked]),
        settle=2.0,
    )
    answer = f"?headers={MODEL_HEADER}:model-y,{TOKENS_HEADER}:77"
    of_ai = [(ai.name, call) for ai, call in _calls_of_ai(facts, answer)]
    yield Contract(
        "log.ai",
        "Lines of AI services' requests have `ai_model` and `token_count`.",
        "telemetry.md",
        tuple(call for _, call in of_ai),
        watch=told({"ai_model": "model-y", "token_count": "77"}, [name for name, _ in of_ai]),
        settle=2.0,
    )
    path = f"{route.path}/1"
    yield Contract(
        "log.client-address",
        "`client_address` is what the gateway takes for the client's address, private ones too;"
        " whatever a client claims is in `forwarded_for` alone.",
        "telemetry.md",
        tuple(
            Call(CLIENT, facts.api(path, *facts.bearer(), ("x-forwarded-for", sent)), _OK)
            # What a client writes itself stands before what the load balancer adds.
            for sent in (f"203.0.113.99,{_PUBLIC}", _PRIVATE)
        ),
        watch=_addressed(),
    )


_OK = Expect((200,))
_CONVERSATION = ((SESSION_HEADER, "session-1"), (CONVERSATION_HEADER, "conversation-1"))
_TALK = {"session_id": "session-1", "conversation_id": "conversation-1"}
_PUBLIC, _PRIVATE = "198.19.250.1", "10.9.8.7"
_EMPTY = ("-", "", None)
_ALONE, _GIVES_UP = 1.0, 1.5
"""Seconds after the others, and after which a client leaves that has surely asked by then."""
WHEREVER = frozenset(
    {
        "log", "time", "cluster", "request_id", "trace_id", "method", "authority", "path",
        "protocol", "route", "code", "code_details", "flags", "bytes_received", "bytes_sent",
        "duration_ms", "peer_address", "user_agent",
    }
)  # fmt: skip
"""Fields of every line."""


@dataclass(frozen=True)
class LineOf:
    """What the line of one proxy must say of a request."""

    proxy: str
    """The app whose pod the proxy is in."""
    values: Mapping[str, object]
    """By field; None where the field must not be there."""
    ends: Mapping[str, str] = field(default_factory=dict)
    """How values end of which only that is known."""

    def differs(self, line: Line) -> str | None:
        """What is wrong with a line; None where nothing is."""
        for name, value in self.values.items():
            if line.get(name) != value:
                return f"{name} is {line.get(name)}, must be {value}"
        for name, end in self.ends.items():
            if not str(line.get(name)).endswith(end):
                return f"{name} is {line.get(name)}, must end with {end}"
        return None


def _from_outside(facts: Facts) -> Iterator[tuple[Call, list[LineOf]]]:
    """One call for each service and host that it is on: API, WebSocket, gRPC."""
    control_plane, namespaces = facts.settings.control_plane, facts.settings.namespaces
    gateway = f"spiffe://{control_plane.trust_domain}/ns/{namespaces.mesh}/sa/{GATEWAY}"
    found = {
        (route.service.name, route.request.authority): route
        for route in gateway_routes(facts)
        if not route.public
    }
    for index, route in enumerate(found.values()):
        one, host = route.service, route.request.authority
        asked = replace(route, request=_with_query(route.request))
        call = asked.call(facts, TENANT, facts.many_clients(index), *_CONVERSATION)
        # A header of the call says from where, as the load balancer does.
        address = next(value for name, value in call.request.headers if name == "x-forwarded-for")
        socket = call.request.kind == "websocket"
        both = {
            **_of_call(call, 101 if socket else 200), **_TALK, "tenant_id": TENANT, "user_id": USER,
            "client_address": address, "tls_version": "TLSv1.3",
        }  # fmt: skip
        if not socket:
            # Of WebSockets Envoy knows only that one side went.
            both |= {"flags": "-", "code_details": "via_upstream"}
        service = f"{one.name}.{namespaces.apps}.svc.cluster.local"
        at_gateway = {
            **both, "route": route.name, "server_name": host, "peer": None,
            "protocol": "HTTP/1.1" if socket else "HTTP/2",
        }  # fmt: skip
        at_service = {**both, "peer": gateway, "protocol": _spoken(facts, route)}
        yield (
            call,
            [
                LineOf(GATEWAY, at_gateway, {"upstream_cluster": f"|{service}"}),
                LineOf(one.name, at_service, {"server_name": f".{service}"}),
            ],
        )


def _with_query(request: Request) -> Request:
    return replace(request, path=f"{request.path}?token=secret")


def _of_call(call: Call, code: int) -> dict[str, object]:
    request = call.request
    return {
        "method": request.method, "authority": request.authority,
        "path": request.path.partition("?")[0], "code": code,
        "ai_model": None, "token_count": None, "upstream_failure": None, "termination": None,
    }  # fmt: skip


def _spoken(facts: Facts, route: GatewayRoute) -> str:
    """The protocol between the gateway and a service."""
    one, host = route.service, route.request.authority
    if host == facts.settings.ws_host:
        return "HTTP/1.1"
    grpc = host == facts.settings.grpc_host
    port = one.port(one.grpc[0].port) if grpc else http_port(one)
    return "HTTP/2" if port.protocol in ("grpc", "http2") or one.pool.h2_upgrade else "HTTP/1.1"


def _from_inside(facts: Facts) -> Iterator[tuple[Call, list[LineOf]]]:
    """Each service asks and is asked."""
    apps = facts.settings.namespaces.apps
    for caller, callee in pairs(facts):
        asked = _with_query(access_request(facts, callee, "service")).with_headers(*_CONVERSATION)
        call = Call(service(caller.name), asked, Expect((200,), served_by=callee.name))
        both = {
            **_of_call(call, 200), **_TALK, "flags": "-", "code_details": "via_upstream",
            # Nobody outside asked.
            "client_address": None,
        }  # fmt: skip
        host = f"{callee.name}.{apps}.svc.cluster.local"
        from_app = {**both, "peer": None, "server_name": None, "tls_version": None}
        at_service = {
            **both, "peer": account(facts, caller.name), "tls_version": "TLSv1.3",
            "tenant_id": TENANT, "user_id": USER,
        }  # fmt: skip
        yield (
            call,
            [
                LineOf(caller.name, from_app, {"upstream_cluster": f"|{host}"}),
                LineOf(callee.name, at_service, {"server_name": f".{host}"}),
            ],
        )


def _unanswered(facts: Facts) -> Iterator[tuple[Call, list[LineOf]]]:
    """What the gateway refuses is in its log alone, and a client that leaves is in both."""
    one, route = next((one, route) for one, route in facts.readable() if not route.streaming)
    refused = Call(CLIENT, facts.api(f"{route.path}/1"), Expect((403,)))
    nobody = {"tenant_id": None, "user_id": None, "upstream_host": None, "upstream_ms": None}
    yield refused, [LineOf(GATEWAY, {**_of_call(refused, 403), **nobody, "flags": "-"})]
    asked = facts.api(f"{route.path}/1?delay=4s", *facts.bearer(), timeout=_GIVES_UP)
    left = Call(CLIENT, asked, Expect((0,)), after=_ALONE)
    said = {**_of_call(left, 0), "flags": "DC"}
    yield left, [LineOf(GATEWAY, said), LineOf(one.name, said)]


def _known(facts: Facts) -> frozenset[str]:
    fields = access_log_fields(facts.settings.authentication, facts.settings.control_plane.cluster)
    return frozenset(fields)


def _calls_of_ai(facts: Facts, query: str) -> Iterator[tuple[Service, Call]]:
    """Of every AI service one call: a client's where there is a route, else another service's."""
    routes = {
        route.service.name: route
        for route in gateway_routes(facts)
        if route.request.authority == facts.settings.api_host and not route.public
    }
    for one in facts.catalogue.services:
        if not one.ai:
            continue
        if route := routes.get(one.name):
            request = replace(route.request, path=f"{route.request.path}{query}")
            yield one, replace(route, request=request).call(facts, TENANT, facts.many_clients(0))
        else:
            caller = facts.catalogue.callers(one)[0]
            yield (
                one,
                Call(
                    service(caller), access_request(facts, one, "service", f"/contract{query}"), _OK
                ),
            )


def told(wanted: Mapping[str, str], names: Sequence[str]) -> Watch:
    """Both proxies' lines of each call have these fields; `names` are the services called."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for name, all_lines in zip(names, recorded.lines, strict=True):
            lines = [line for line in all_lines if line["log"] == "access"]
            if not any(line["proxy"].startswith(f"{name}-") for line in lines) or len(lines) < 2:
                return f"a call of {name} was logged by {_proxies(lines)} only"
            for line in lines:
                for one, value in wanted.items():
                    if line.get(one) != value:
                        return f"{line['proxy']} logged {one} {line.get(one)}, must be {value}"
        return None

    return watch


def _proxies(lines: Sequence[Line]) -> str:
    return ", ".join(sorted(line["proxy"] for line in lines)) or "nobody"


def _addressed() -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for lines, wanted in zip(recorded.lines, (_PUBLIC, _PRIVATE), strict=True):
            if len(lines) < 2:
                return f"logged by {sorted(line['proxy'] for line in lines)} only"
            for line in lines:
                if line.get("client_address") != wanted:
                    told = line.get("client_address")
                    return f"{line['proxy']}: client_address is {told}, must be {wanted}"
                if not (line.get("forwarded_for") and line.get("peer_address")):
                    return f"{line['proxy']}: forwarded_for or peer_address is missing"
        return None

    return watch


def logged_as(wanted: Sequence[Sequence[LineOf]], known: frozenset[str]) -> Watch:
    """Each call left one line at each proxy that it passed, and each says what it must.

    Args:
        wanted: for each call the lines.
        known: all fields that there are.
    """

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, expected, all_lines in zip(replies, wanted, recorded.lines, strict=True):
            # What the audit log says of them is another contract's.
            lines = [line for line in all_lines if line["log"] == "access"]
            for one in expected:
                mine = [line for line in lines if line["proxy"].startswith(f"{one.proxy}-")]
                if len(mine) != 1:
                    return f"{one.proxy} logged {len(mine)} lines of what was answered with {reply}"
                if wrong := _malformed(mine[0], known) or one.differs(mine[0]):
                    return f"{mine[0]['proxy']}: {wrong} (answered with {reply})"
            if len(lines) != len(expected):
                return f"what was answered with {reply} was logged by {_proxies(lines)}"
            if len({(line["trace_id"], _undecided(line["request_id"])) for line in lines}) != 1:
                return f"{_proxies(lines)} logged different traces or request ids"
        return None

    return watch


def _undecided(request_id: str) -> str:
    """A request id without the digit in which each proxy keeps what it decided about the trace."""
    return request_id[:14] + request_id[15:]


def _malformed(line: Line, known: frozenset[str]) -> str | None:
    if missing := sorted(WHEREVER - line.keys()):
        return f"the line lacks {', '.join(missing)}"
    if empty := sorted(name for name, value in line.items() if value in _EMPTY and name != "flags"):
        return f"the line has {', '.join(empty)} without a value"
    if strange := sorted(line.keys() - known - {"proxy"}):
        return f"the line has {', '.join(strange)} as well"
    return None


def without(secrets: Sequence[str], names: Sequence[str]) -> Watch:
    """Gateway and service logged each call, and none of these texts; `names` are the services."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for name, lines in zip(names, recorded.lines, strict=True):
            for proxy in (GATEWAY, name):
                if not any(line["proxy"].startswith(f"{proxy}-") for line in lines):
                    return f"a call of {name} was logged by {_proxies(lines)} only"
            for line in lines:
                for secret in secrets:
                    if secret in str(dict(line)):
                        return f"{line['proxy']} logged {secret}"
        return None

    return watch
