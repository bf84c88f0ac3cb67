"""The routes section: where requests go, how long they may take, how hard a service may be hit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diff.changes import Effect, Section
from diff.facts import Fact, Object, compare, flat, label, of_kind, spec


def section(old: Sequence[Object], new: Sequence[Object]) -> Section:
    """Routes, timeouts, retries, weights, CORS, limits, egress."""
    return Section("routes", "Routes", tuple(compare(facts(old), facts(new), judge, judge_whole)))


def judge(field: str, before: str | None, after: str | None) -> Effect:
    """Only what lets browsers in, or traffic out, further has a direction here: a copy of it, too.

    So have request headers that are no longer removed or overwritten: clients bring their own.
    A Sidecar's hosts have none: they say what a proxy knows, not what it may do.
    """
    if field == "headers.request.remove":
        gone = set((before or "").split(", ")) - set((after or "").split(", ")) - {""}
        return Effect.WEAKER if gone else Effect.STRICTER
    if field.startswith("headers.request.set"):
        return Effect.WEAKER if after is None else Effect.NEUTRAL
    if field.startswith("CORS allow"):
        gained = set((after or "").split(", ")) - set((before or "").split(", ")) - {""}
        return Effect.WEAKER if gained else Effect.NEUTRAL
    if field.startswith("mirror"):
        return Effect.WEAKER if after is not None else Effect.STRICTER
    if field == "egress to":
        return Effect.WEAKER if before is None else Effect.STRICTER
    return Effect.NEUTRAL


def judge_whole(field: str, before: str | None, after: str | None) -> Effect:
    """A route that comes with its CORS and headers opens what the access section tells, no more."""
    return Effect.NEUTRAL if field.startswith(("CORS", "headers")) else judge(field, before, after)


def facts(objects: Sequence[Object]) -> Iterator[Fact]:
    """Every route, destination policy, sidecar scope and outside host."""
    for item in of_kind(objects, "VirtualService"):
        yield from _virtual_service(item)
    for item in of_kind(objects, "DestinationRule"):
        yield from _destination_rule(item)
    for item in of_kind(objects, "Sidecar"):
        for index, egress in enumerate(spec(item).get("egress") or ()):
            name = "hosts it knows" + (f" {index}" if index else "")
            yield Fact(label(item), name, ", ".join(sorted(egress.get("hosts") or ())))
    for item in of_kind(objects, "ServiceEntry"):
        hosts = ", ".join(sorted(str(h) for h in spec(item).get("hosts") or ()))
        yield Fact(label(item), "egress to", hosts)
        for path, value in flat({k: v for k, v in spec(item).items() if k != "hosts"}):
            yield Fact(label(item), path, value)


def _virtual_service(item: Object) -> Iterator[Fact]:
    body = spec(item)
    gateways = body.get("gateways") or ["mesh"]
    inside = " (in the mesh)" if set(gateways) == {"mesh"} else ""
    for host in (_short(h) for h in body.get("hosts") or ()):
        seen: dict[str, int] = {}
        for protocol in ("http", "tls", "tcp"):
            for route in body.get(protocol) or ():
                matches: Sequence[Mapping[str, Any]] = route.get("match") or ({},)
                for match in matches:
                    subject = f"{host}{inside} {match_text(match)}".strip()
                    seen[subject] = seen.get(subject, 0) + 1
                    nth = f" (match {seen[subject]})" if seen[subject] > 1 else ""
                    yield from _route(subject + nth, route)


def _short(host: Any) -> str:
    return str(host).removesuffix(".svc.cluster.local")


def match_text(match: Mapping[str, Any]) -> str:
    """A match in few words: `/api/users* GET [x-cohort=beta]`."""
    parts = [_string(match["uri"])] if match.get("uri") else []
    if match.get("method"):
        parts.append(_string(match["method"]))
    for name, wanted in sorted((match.get("headers") or {}).items()):
        parts.append(f"[{name}={_string(wanted or {})}]")
    for name, wanted in sorted((match.get("withoutHeaders") or {}).items()):
        parts.append(f"[{name}≠{_string(wanted or {})}]")
    known = {"uri", "method", "headers", "withoutHeaders", "name", "ignoreUriCase", "gateways"}
    parts += [
        f"{key}={value}" for key, value in flat({k: v for k, v in match.items() if k not in known})
    ]
    return " ".join(parts) or "(all paths)"


def _string(match: Mapping[str, Any]) -> str:
    if "exact" in match:
        return str(match["exact"])
    if "prefix" in match:
        return f"{match['prefix']}*"
    if "regex" in match:
        return f"~{match['regex']}"
    return "any"


_OWN_WORDS = {"match", "name", "route", "corsPolicy", "timeout", "retries"}


def _route(subject: str, route: Mapping[str, Any]) -> Iterator[Fact]:
    destinations = [_destination(entry) for entry in route.get("route") or ()]
    if destinations:
        yield Fact(subject, "goes to", ", ".join(dict.fromkeys(name for name, _ in destinations)))
    if len(destinations) > 1:
        yield Fact(subject, "weights", ", ".join(_weights(route)))
    if "timeout" in route:
        yield Fact(subject, "timeout", str(route["timeout"]))
    for path, value in flat(route.get("retries")):
        yield Fact(subject, f"retries {path}", value)
    for key, values in (route.get("corsPolicy") or {}).items():
        for text in _cors(key, values):
            yield Fact(subject, f"CORS {key}", text)
    for path, value in flat({k: v for k, v in route.items() if k not in _OWN_WORDS}):
        yield Fact(subject, path, value)
    for entry in route.get("route") or ():
        for path, value in flat(entry.get("headers"), "headers"):
            yield Fact(subject, path, value)


def _cors(key: str, values: Any) -> Iterator[str]:
    if key == "allowOrigins":
        yield ", ".join(_string(origin) for origin in values)
        return
    for _, value in flat(values):
        yield value


def _weights(route: Mapping[str, Any]) -> Iterator[str]:
    """`v1 95`: by subset where the destinations differ in nothing else."""
    entries = route["route"]
    hosts = {str((e.get("destination") or {}).get("host")) for e in entries}
    for entry in entries:
        name, weight = _destination(entry)
        subset = (entry.get("destination") or {}).get("subset")
        yield f"{subset if subset and len(hosts) == 1 else name} {weight}"


def _destination(entry: Mapping[str, Any]) -> tuple[str, Any]:
    destination = entry.get("destination") or {}
    host = _short(destination.get("host", ""))
    port = (destination.get("port") or {}).get("number")
    name = host + (f":{port}" if port else "")
    if destination.get("subset"):
        name += f" {destination['subset']}"
    return name, entry.get("weight", 100)


def _destination_rule(item: Object) -> Iterator[Fact]:
    body = spec(item)
    subject = f"service {_short(body.get('host', ''))}"
    for path, value in flat(_without_tls(body.get("trafficPolicy"))):
        yield Fact(subject, path, value)
    for subset in body.get("subsets") or ():
        labels = ", ".join(f"{k}={v}" for k, v in sorted((subset.get("labels") or {}).items()))
        yield Fact(subject, f"subset {subset.get('name')}", labels)
        for path, value in flat(_without_tls(subset.get("trafficPolicy"))):
            yield Fact(subject, f"subset {subset.get('name')} {path}", value)


def _without_tls(policy: Mapping[str, Any] | None) -> dict[str, Any]:
    kept = {key: value for key, value in (policy or {}).items() if key != "tls"}
    if "portLevelSettings" in kept:
        kept["portLevelSettings"] = [
            {k: v for k, v in port.items() if k != "tls"} for port in kept["portLevelSettings"]
        ]
    return kept
