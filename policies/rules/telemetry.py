"""What is measured: by providers that exist, at a cost that is bounded, without credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.cel import lets_through
from policies.mesh_config import RELEASE_KINDS, chart_of, release_values
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Setting,
    Severity,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.stack import Stack, selector_of

_TELEMETRY = "https://istio.io/latest/docs/reference/config/telemetry/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_BUILT_IN = {"prometheus", "envoy", "stackdriver"}
_BOTH = "CLIENT_AND_SERVER"
_CODES = (0, *range(100, 600))
"""Codes of answers; 0 is Envoy's for none."""
_CREDENTIAL = re.compile(r"(?i)\b(authorization|cookie|set-cookie|x-api-key|proxy-authorization)\b")


@stack_policy(
    "telemetry-distinct",
    title="One Telemetry for each scope",
    severity=Severity.MEDIUM,
    codes=("IST0159", "IST0160"),
    text="A namespace has one Telemetry without selector, and a workload is selected by one at "
    "most. Of two, Istio takes the older one alone.",
    remedy="Merge the two.",
    url=_ANALYSIS + "ist0159/",
)
def distinct(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares scopes, then asks each workload."""
    reported: set[int] = set()
    seen: dict[object, Object] = {}
    for item in stack.of("Telemetry"):
        if spec_of(item).get("targetRefs"):
            continue
        first = seen.setdefault((namespace_of(item), frozenset(selector_of(item).items())), item)
        if first is not item:
            reported.add(id(item))
            yield Finding(item, "spec.selector", f"has the same scope as {reference(first)}")
    for workload in stack.workloads:
        own = [
            t
            for t in stack.applying("Telemetry", workload)
            if selector_of(t) and namespace_of(t) == workload.namespace and id(t) not in reported
        ]
        for item in own[1:]:
            reported.add(id(item))
            message = f"{workload} is also selected by {reference(own[0])}"
            yield Finding(item, "spec.selector", message)


@stack_policy(
    "telemetry-provider-exists",
    title="Telemetry names providers that exist",
    severity=Severity.HIGH,
    codes=("IST0157",),
    text="Every provider named by a Telemetry, by meshConfig.defaultProviders or by a CUSTOM "
    "AuthorizationPolicy is one of meshConfig.extensionProviders, and a Telemetry names one where "
    "there is no default. Otherwise nothing is sent, and CUSTOM refuses everything.",
    remedy="Add the provider to meshConfig.extensionProviders, or correct the name.",
    url=_TELEMETRY + "#ProviderRef",
)
def provider_exists(stack: Stack, _: Config) -> Iterator[Finding]:
    """Judges where the set holds meshConfig."""
    if stack.providers is None:
        return
    known = stack.providers | _BUILT_IN
    default = {
        part: any(mesh.get(f"defaultProviders.{part}") for mesh in stack.mesh_configs)
        for part in ("tracing", "metrics", "accessLogging")
    }
    for item in stack.of("Telemetry"):
        for part in ("tracing", "metrics", "accessLogging"):
            for index, entry in enumerate(spec_of(item).get(part) or ()):
                if not entry.get("providers") and not entry.get("disabled") and not default[part]:
                    message = "it names no provider, and there is no default one"
                    yield Finding(item, f"spec.{part}[{index}].providers", message)
                for provider in entry.get("providers") or ():
                    if provider.get("name") not in known:
                        message = f"there is no provider {provider.get('name')}"
                        yield Finding(item, f"spec.{part}[{index}].providers", message)
    for item in stack.of("AuthorizationPolicy"):
        name = (spec_of(item).get("provider") or {}).get("name")
        if name and name not in known:
            yield Finding(item, "spec.provider.name", f"there is no provider {name}")
    for mesh in stack.mesh_configs:
        for part, names in mesh.get("defaultProviders", {}).items():
            for name in names or ():
                if name not in known:
                    yield mesh.finding(f"defaultProviders.{part}", f"there is no provider {name}")


@stack_policy(
    "sampling-bounded",
    title="The share of traced requests is bounded",
    severity=Severity.MEDIUM,
    text="What is sampled mesh-wide or in a whole namespace stays within a bound; single "
    "workloads may have more. At 100 percent every request of every service makes a span for "
    "every hop.",
    remedy="Lower randomSamplingPercentage, or select the workload that needs more.",
    url=_TELEMETRY + "#Tracing",
    settings={
        "mesh": Setting(
            "number", 50, "Most percent for mesh or namespace.", minimum=0, maximum=100
        ),
        "workload": Setting("number", 100, "Most percent for workloads.", minimum=0, maximum=100),
    },
)
def sampling(stack: Stack, config: Config) -> Iterator[Finding]:
    """Looks at Telemetry objects and at meshConfig."""
    for item in stack.of("Telemetry"):
        bound = config["workload" if selector_of(item) else "mesh"]
        for index, tracing in enumerate(spec_of(item).get("tracing") or ()):
            share = tracing.get("randomSamplingPercentage")
            if share is not None and share > bound:
                path = f"spec.tracing[{index}].randomSamplingPercentage"
                yield Finding(item, path, f"{share} percent are traced, above {bound}")
    for release in stack.of(*RELEASE_KINDS):
        values = release_values(release)
        for path, holder in (("", values), ("pilot.", values.get("pilot") or {})):
            share = holder.get("traceSampling") or 0
            if chart_of(release) == "istiod" and share > config["mesh"]:
                message = f"{share} percent are traced, above {config['mesh']}"
                yield Finding(release, f"spec.values.{path}traceSampling", message)
    for mesh in stack.mesh_configs:
        share = mesh.get("defaultConfig.tracing.sampling")
        if share is not None and share > config["mesh"]:
            message = f"{share} percent are traced, above {config['mesh']}"
            yield mesh.finding("defaultConfig.tracing.sampling", message)


@object_policy(
    "metrics-bounded",
    "Telemetry",
    title="Metrics have no label without bound",
    severity=Severity.HIGH,
    text="No metric has a tag whose values are as many as users, sessions, requests or paths: each "
    "value is a time series of its own in every proxy and in Prometheus.",
    remedy="Put such values into the access log or a span.",
    url="https://istio.io/latest/docs/tasks/observability/metrics/customize-metrics/",
    settings={
        "unbounded": Setting(
            "array",
            [
                r"x-(user|session|conversation|request|correlation)-id",
                r"request\.(id|path|url_path|useragent|query|time)\b",
                r"source\.address",
                r"connection\.id",
                r"\['(sub|jti|user_id|session_id)'\]",
            ],
            "Regular expressions of tag values that are unbounded.",
            regexes=True,
        )
    },
)
def metrics_bounded(item: Object, config: Config) -> Iterator[Finding]:
    """Looks at the expression of each tag."""
    for index, metrics in enumerate(spec_of(item).get("metrics") or ()):
        for number, override in enumerate(metrics.get("overrides") or ()):
            for tag, change in (override.get("tagOverrides") or {}).items():
                value = str((change or {}).get("value", ""))
                if any(re.search(pattern, value) for pattern in config["unbounded"]):
                    path = f"spec.metrics[{index}].overrides[{number}].tagOverrides.{tag}"
                    yield Finding(item, path, f"{value} has values without bound")


@object_policy(
    "telemetry-on",
    "Telemetry",
    title="Logs, metrics and traces are not switched off",
    severity=Severity.MEDIUM,
    text="No Telemetry disables the access log or span reporting, or all metrics of a scope, be it "
    "by a filter that is never true or leaves out all failures, by a sampling of 0 or by logging "
    "one side only. What is switched off is missing when it is needed.",
    remedy="Remove the switch; filter the log, or lower sampling.",
    url=_TELEMETRY,
)
def telemetry_on(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the switches, and tries filters with every code."""
    spec = spec_of(item)
    yield from _unlogged(item)
    for index, tracing in enumerate(spec.get("tracing") or ()):
        if tracing.get("disableSpanReporting"):
            path = f"spec.tracing[{index}].disableSpanReporting"
            yield Finding(item, path, "traces are switched off")
        if tracing.get("randomSamplingPercentage") == 0:
            path = f"spec.tracing[{index}].randomSamplingPercentage"
            yield Finding(item, path, "no request is traced")
    for index, log in enumerate(spec.get("accessLogging") or ()):
        if log.get("disabled"):
            path = f"spec.accessLogging[{index}].disabled"
            yield Finding(item, path, "the access log is switched off")
    for index, metrics in enumerate(spec.get("metrics") or ()):
        for number, override in enumerate(metrics.get("overrides") or ()):
            metric = (override.get("match") or {}).get("metric")
            if override.get("disabled") and metric in (None, "ALL_METRICS", "REQUEST_COUNT"):
                path = f"spec.metrics[{index}].overrides[{number}].disabled"
                yield Finding(item, path, f"{metric or 'all metrics'} is switched off")


def _unlogged(item: Object) -> Iterator[Finding]:
    """What the logs of a Telemetry leave out though they are on."""
    logs = [
        (index, log)
        for index, log in enumerate(spec_of(item).get("accessLogging") or ())
        if not log.get("disabled")
    ]
    hiding = []
    for index, log in logs:
        expression = str((log.get("filter") or {}).get("expression") or "true")
        passing = {code for code in _CODES if lets_through(expression, code) is not False}
        path = f"spec.accessLogging[{index}].filter.expression"
        if not passing:
            yield Finding(item, path, f"{expression} is never true")
        elif not any(code >= 400 for code in passing):
            hiding.append(Finding(item, path, f"{expression} leaves out all that fails"))
    if logs and len(hiding) == len(logs):
        yield from hiding
    modes = {str((log.get("match") or {}).get("mode") or _BOTH) for _, log in logs}
    if logs and _BOTH not in modes and not {"CLIENT", "SERVER"} <= modes:
        message = f"only what a {', '.join(sorted(modes))} sees is logged"
        yield Finding(item, f"spec.accessLogging[{logs[0][0]}].match.mode", message)


@stack_policy(
    "no-credentials-recorded",
    title="No credential stands in logs, spans or metrics",
    severity=Severity.CRITICAL,
    text="Neither log formats nor span tags nor metric tags read Authorization, cookies or API "
    "keys. Whoever reads the log could act as the user.",
    remedy="Record a verified claim, not the token.",
    url="https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider",
)
def no_credentials(stack: Stack, _: Config) -> Iterator[Finding]:
    """Searches the values of tags and formats."""
    for item in stack.of("Telemetry"):
        for path, text in _texts("spec", spec_of(item)):
            if found := _CREDENTIAL.search(text):
                yield Finding(item, path, f"{found.group()} is recorded")
    for mesh in stack.mesh_configs:
        recorded = {
            "extensionProviders": mesh.get("extensionProviders", ()),
            "accessLogFormat": mesh.get("accessLogFormat", ""),
            "defaultConfig.tracing": mesh.get("defaultConfig.tracing", {}),
        }
        for base, value in recorded.items():
            for path, text in _texts(base, value):
                # External authorizers are meant to see credentials.
                if "envoyExtAuthz" not in path and (found := _CREDENTIAL.search(text)):
                    yield mesh.finding(path, f"{found.group()} is recorded")


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text below a value, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(f"{path}.{key}", entry)
    elif isinstance(value, Sequence):
        for index, entry in enumerate(value):
            yield from _texts(f"{path}[{index}]", entry)


@stack_policy(
    "access-log-configured",
    title="Requests are logged",
    severity=Severity.LOW,
    enforcement=Enforcement.ADVISORY,
    reason="a mesh may log elsewhere than in its proxies",
    text="meshConfig or a mesh-wide Telemetry names a provider for the access log.",
    remedy="Add accessLogging to the Telemetry of the root namespace.",
    url="https://istio.io/latest/docs/tasks/observability/logs/access-log/",
)
def access_log(stack: Stack, _: Config) -> Iterator[Finding]:
    """Judges where the set holds meshConfig."""
    by_telemetry = any(
        spec_of(item).get("accessLogging")
        for item in stack.of("Telemetry")
        if namespace_of(item) == stack.root_namespace and not selector_of(item)
    )
    for mesh in stack.mesh_configs:
        default = mesh.get("defaultProviders.accessLogging") or mesh.get("accessLogFile")
        if not default and not by_telemetry:
            yield mesh.finding("defaultProviders.accessLogging", "nothing logs requests")
