"""The whole way: CRDs in, the text of every generated file out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from schema.emit import emit
from schema.flatten import Flattener, Place
from schema.kinds import ISTIO_KINDS, PROMETHEUS_OPERATOR_KINDS, Kind, load_kinds
from schema.proto import Messages

ISTIO = Path("components/istio")
PROMETHEUS_OPERATOR = Path("components/prometheus_operator")

_GO_TYPES = {
    "attachMetadata": "AttachMetadata",
    "basicAuth": "BasicAuth",
    "bearerTokenSecret": "SecretKeySelector",
    "ca": "SecretOrConfigMap",
    "cert": "SecretOrConfigMap",
    "clientId": "SecretOrConfigMap",
    "clientSecret": "SecretKeySelector",
    "configMap": "ConfigMapKeySelector",
    "credentials": "SecretKeySelector",
    "endpoints": "Endpoint",
    "groups": "RuleGroup",
    "keySecret": "SecretKeySelector",
    "matchExpressions": "LabelSelectorRequirement",
    "metricRelabelings": "RelabelConfig",
    "oauth2": "OAuth2",
    "password": "SecretKeySelector",
    "podMetricsEndpoints": "PodMetricsEndpoint",
    "proxyConnectHeader": "SecretKeySelector",
    "relabelings": "RelabelConfig",
    "rules": "Rule",
    "secret": "SecretKeySelector",
    "selector": "LabelSelector",
    "tlsConfig": "TLSConfig",
    "username": "SecretKeySelector",
}
"""Field of a prometheus-operator CRD → name of its type in the operator's Go API."""


def generate_all(istio_crds: Path, prometheus_operator_crds: Iterable[Path]) -> dict[Path, str]:
    """Every generated file's path, relative to the project, with its text."""
    return _istio(istio_crds) | _prometheus_operator(prometheus_operator_crds)


def _istio(crds: Path) -> dict[Path, str]:
    module_root = crds.parent.parent
    messages = Messages(*(module_root / d for d in ("networking", "security", "telemetry", "type")))
    flattener = Flattener("components.istio", messages, _message_name)
    kinds: dict[str, dict[str, tuple[Kind, str]]] = {}
    for kind in load_kinds([crds], ISTIO_KINDS):
        message = messages.top_level(kind.name, _module(kind.name))
        place = Place(_module(kind.name), (kind.name,), message)
        module, spec = flattener.add(kind.spec, place, name=f"{kind.name}Spec")
        kinds.setdefault(module, {})[kind.name] = (kind, spec)
    source = f"istio.io/api {module_root.name.partition('@')[2]}"
    return _files(ISTIO, flattener, kinds, source)


def _prometheus_operator(crds: Iterable[Path]) -> dict[Path, str]:
    files = list(crds)
    flattener = Flattener("components.prometheus_operator", None, _go_type_name)
    kinds: dict[str, dict[str, tuple[Kind, str]]] = {}
    for kind in load_kinds(files, PROMETHEUS_OPERATOR_KINDS):
        place = Place(_module(kind.name), (kind.name,))
        module, spec = flattener.add(kind.spec, place, name=f"{kind.name}Spec")
        kinds.setdefault(module, {})[kind.name] = (kind, spec)
    version = re.search(r"prometheus-operator@(v[^/]+)", files[0].as_posix())
    source = f"prometheus-operator {version[1]}" if version else "prometheus-operator"
    return _files(PROMETHEUS_OPERATOR, flattener, kinds, source)


def _files(
    folder: Path,
    flattener: Flattener,
    kinds: dict[str, dict[str, tuple[Kind, str]]],
    source: str,
) -> dict[Path, str]:
    package = ".".join(folder.parts)
    return {
        folder / f"{module}.py": emit(package, module, definitions, kinds.get(module, {}), source)
        for module, definitions in sorted(flattener.modules.items())
    }


def _module(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def _message_name(place: Place) -> str:
    """Nested names joined, without the message that stands for the kind's spec."""
    if place.message is None:
        raise LookupError(f"{place.path} has no message")
    path = place.message.path
    if len(path) > 1 and _module(path[0]) == place.message.file:
        path = path[1:]
    return "".join(path)


def _go_type_name(place: Place) -> str:
    field = place.path[-1]
    return _GO_TYPES.get(field, field[:1].upper() + field[1:])
