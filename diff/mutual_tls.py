"""The mTLS and TLS section: modes, versions, ciphers, injection, and mesh-wide safety settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diff.changes import Effect, Section
from diff.facts import Fact, Object, compare, flat, label, of_kind, scalar, spec
from semantics.authentication import UNSET, mtls
from semantics.mesh import mesh_config
from semantics.objects import ANY_OTHER, MeshObjects

_STRENGTH: Mapping[str, Sequence[str]] = {
    "mTLS": ("DISABLE", "PERMISSIVE", "STRICT"),
    "client TLS": ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"),
    "TLS mode": ("PASSTHROUGH", "SIMPLE", "OPTIONAL_MUTUAL", "MUTUAL", "ISTIO_MUTUAL"),
    # Left to Istio, a server takes TLS 1.2 and 1.3.
    "lowest version": ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
    "highest version": ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
}
_TLS_AUTO = "TLS_AUTO"
_AUTO = {"lowest version": "TLSV1_2", "highest version": "TLSV1_3"}
"""What TLS_AUTO stands for."""
_SAFER: Mapping[str, Sequence[str]] = {
    "HTTPS redirect": ("false", "true"),
    "sidecar": ("not injected", "injected"),
    "insecureSkipVerify": ("true", "false"),
    "enableAutoMtls": ("false", "true"),
    "outboundTrafficPolicy.mode": ("ALLOW_ANY", "REGISTRY_ONLY"),
    "pathNormalization.normalization": (
        "NONE",
        "DEFAULT",
        "BASE",
        "MERGE_SLASHES",
        "DECODE_AND_MERGE_SLASHES",
    ),
}
_MESH_SETTINGS = (
    "enableAutoMtls",
    "meshMTLS",
    "tlsDefaults",
    "outboundTrafficPolicy",
    "pathNormalization",
    "rootNamespace",
    "trustDomain",
    "trustDomainAliases",
    "discoverySelectors",
    "caCertificates",
    "defaultConfig.gatewayTopology",
)


def section(
    old: Sequence[Object], new: Sequence[Object], views: tuple[MeshObjects, MeshObjects]
) -> Section:
    """Everything that says how connections are protected."""
    changes = compare(facts(old, views[0]), facts(new, views[1]), judge)
    return Section("tls", "mTLS and TLS", tuple(changes))


def judge(field: str, before: str | None, after: str | None) -> Effect:
    """Weaker is a lower version, a softer mode, a cipher more, a check less."""
    scale = next((s for name, s in {**_STRENGTH, **_SAFER}.items() if name in field), None)
    if scale is not None and (before in scale or after in scale):
        # What is left out is Istio's default; only a step between two known values has a direction.
        if before is None or after is None:
            return Effect.NEUTRAL if _is_strongest(scale, before, after) else Effect.WEAKER
        if before in scale and after in scale:
            return Effect.WEAKER if scale.index(after) < scale.index(before) else Effect.STRICTER
        return Effect.WEAKER
    if field.endswith("numTrustedProxies"):
        # One proxy too many, and clients write the address that lists are compared with.
        return Effect.STRICTER if _count(after) < _count(before) else Effect.WEAKER
    if "cipher" in field and before is not None and after is not None:
        gained = set(after.split(", ")) - set(before.split(", "))
        return Effect.WEAKER if gained else Effect.STRICTER
    return Effect.NEUTRAL


def _count(value: str | None) -> float:
    """A number, 0 where none is given; what is no number could be any."""
    if value is None:
        return 0
    return int(value) if value.isdigit() else math.inf


def _is_strongest(scale: Sequence[str], before: str | None, after: str | None) -> bool:
    """Whether the value that came is the scale's best; one that went leaves less behind."""
    return after == scale[-1] if before is None else before == scale[0]


def facts(objects: Sequence[Object], view: MeshObjects) -> Iterator[Fact]:
    """Modes as they take effect, and the fields they come from."""
    for workload in view.workloads:
        if workload.gateway or workload.name == ANY_OTHER:
            continue
        subject = f"workload {workload}"
        yield Fact(subject, "sidecar", "injected" if workload.proxied else "not injected")
        if workload.proxied:
            effective = mtls(view, workload)
            yield Fact(subject, "mTLS", effective.mode.value)
            for port, mode in sorted(effective.ports.items()):
                yield Fact(subject, f"mTLS of port {port}", mode.value)
    for item in of_kind(objects, "PeerAuthentication"):
        yield from _peer_authentication(item)
    for item in of_kind(objects, "DestinationRule"):
        yield from _destination_rule(item)
    for item in of_kind(objects, "Gateway"):
        yield from _gateway(item)
    yield from mesh_settings(objects, _MESH_SETTINGS)


def _peer_authentication(item: Object) -> Iterator[Fact]:
    """Modes that are set; UNSET says nothing, and what it comes to is told of the workloads."""
    body = spec(item)
    modes = {"mTLS": body.get("mtls")}
    modes |= {
        f"mTLS of port {port}": setting
        for port, setting in (body.get("portLevelMtls") or {}).items()
    }
    for field, setting in modes.items():
        mode = str((setting or {}).get("mode") or UNSET)
        if mode != UNSET:
            yield Fact(label(item), field, mode)


def _destination_rule(item: Object) -> Iterator[Fact]:
    """TLS to the destination at all four levels at which it can be set."""
    body = spec(item)
    subject = f"{label(item)} ({body.get('host', '')})"
    policies: list[tuple[str, Mapping[str, Any]]] = [("", body.get("trafficPolicy") or {})]
    for subset in body.get("subsets") or ():
        policies.append((f" of subset {subset.get('name')}", subset.get("trafficPolicy") or {}))
    for where, policy in policies:
        yield from _client_tls(subject, where, policy.get("tls"))
        for port in policy.get("portLevelSettings") or ():
            number = (port.get("port") or {}).get("number")
            yield from _client_tls(subject, f"{where} of port {number}", port.get("tls"))


def _client_tls(subject: str, where: str, tls: Mapping[str, Any] | None) -> Iterator[Fact]:
    if tls is None:
        return
    yield Fact(subject, f"client TLS{where}", str(tls.get("mode") or "DISABLE"))
    for key, value in flat({k: v for k, v in tls.items() if k != "mode"}):
        yield Fact(subject, f"{key}{where}", value)


def _gateway(item: Object) -> Iterator[Fact]:
    for server in spec(item).get("servers") or ():
        port = server.get("port") or {}
        hosts = ", ".join(str(host) for host in server.get("hosts") or ())
        subject = f"{label(item)} port {port.get('number')} for {hosts}"
        tls = server.get("tls") or {}
        yield Fact(subject, "protocol", str(port.get("protocol", "")))
        if "httpsRedirect" in tls:
            yield Fact(subject, "HTTPS redirect", scalar(tls["httpsRedirect"]))
        if set(tls) - {"httpsRedirect"}:
            # PASSTHROUGH is what a mode that is left out means.
            yield Fact(subject, "TLS mode", str(tls.get("mode") or "PASSTHROUGH"))
            for key, name in (
                ("minProtocolVersion", "lowest version"),
                ("maxProtocolVersion", "highest version"),
            ):
                version = str(tls.get(key) or _TLS_AUTO)
                yield Fact(subject, name, _AUTO[name] if version == _TLS_AUTO else version)
        for key, name in (
            ("credentialName", "certificate"),
            ("cipherSuites", "ciphers"),
            ("ecdhCurves", "curves"),
            ("subjectAltNames", "client names"),
        ):
            for _, value in flat(tls.get(key)):
                yield Fact(subject, name, value)


def mesh_settings(objects: Iterable[Object], keys: Sequence[str]) -> Iterator[Fact]:
    """Chosen keys of the meshConfig in istiod's ConfigMap."""
    for item in of_kind(objects, "ConfigMap"):
        config = mesh_config(item)
        for key in keys if config is not None else ():
            found: Any = config
            for part in key.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
            for path, value in flat(found, key):
                yield Fact("meshConfig", path, value)
