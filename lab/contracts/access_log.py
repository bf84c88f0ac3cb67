"""The access log: a line of JSON at each proxy, with what is promised of it and no credential."""

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
from lab.contracts.contract import (
    CLIENT,
    Bounded,
    Call,
    Contract,
    Expect,
    Line,
    Recorded,
    Watch,
    service,
)
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.gateway_routes import GatewayRoute, gateway_routes
from lab.contracts.request_ids import undecided
from lab.contracts.spans import pairs
from lab.contracts.ways_in import sockets
from lab.exchange import Reply, Request
from model.service import Service


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `log`, but for what is tried in other states of the mesh."""
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
    left = Call(CLIENT, asked, Expect((0,), given_up=True), after=_ALONE)
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
        for all_lines, wanted in zip(recorded.lines, (_PUBLIC, _PRIVATE), strict=True):
            lines = [line for line in all_lines if line["log"] == "access"]
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
            if len({(line["trace_id"], undecided(line["request_id"])) for line in lines}) != 1:
                return f"{_proxies(lines)} logged different traces or request ids"
        return None

    return watch


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
