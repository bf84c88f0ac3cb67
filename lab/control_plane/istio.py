"""istiod as Istio's own chart describes it, run as a process of the node.

Configuration, roles and webhooks are what the charts render; istiod's environment is that of the
chart's Deployment. Only what ties it to a cluster is replaced: the webhooks call a URL instead of a
Service, and the Service istiod gets its endpoint from us, for no pod is behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charts import expand
from components.objects import HelmRelease, Manifest
from lab.control_plane.kubernetes import ISSUER
from lab.errors import LabError
from lab.node.init import BRIDGE_ADDRESS
from lab.node.parts import Part
from lab.toolchain.charts import RELEASE, Charts
from lab.waiting import NotYet

NAMESPACE = "istio-system"
HOST = f"istiod.{NAMESPACE}.svc"
HTTP_PORT, WEBHOOK_PORT, XDS_PORT, PLAIN_XDS_PORT, MONITORING_PORT = (
    8080,
    15017,
    15012,
    15010,
    15014,
)

UPSTREAM_ENVOY = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_DISABLE_MX_ALPN": "true",
    "PILOT_ENABLE_ALPN_FILTER": "false",
}
"""Off: filters that only Istio's own build of Envoy has; the lab's proxies are upstream Envoy."""

WEBHOOKS = {
    "validatingwebhookconfigurations": ("istiod-default-validator", f"istio-validator-{NAMESPACE}"),
    "mutatingwebhookconfigurations": ("istio-sidecar-injector",),
}
"""The webhooks that istiod completes with its CA when it is up."""

_NOT_OURS = frozenset({"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"})
"""What the chart runs istiod with; here it is a process."""


def rendered(
    charts: Charts, mesh_config: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Manifest]:
    """All that the charts base and istiod make of these values, without the CRDs."""
    webhook = f"https://{HOST}:{WEBHOOK_PORT}"
    validation = {"validationURL": f"{webhook}/validate", "validationFailurePolicy": "Fail"}
    base = {"base": {**validation, "enableCRDTemplates": False}}
    istiod = _merged(
        values,
        {
            "meshConfig": dict(mesh_config),
            "base": validation,
            "istiodRemote": {"injectionURL": f"{webhook}/inject"},
        },
    )
    return [
        manifest
        for name, chart_values in (("base", base), ("istiod", istiod))
        for manifest in expand(_release(name, chart_values), charts)
        if manifest["kind"] != "CustomResourceDefinition"
    ]


def objects(manifests: list[Manifest]) -> list[Manifest]:
    """What of the rendered charts goes to the API server, and the endpoint of the Service istiod."""
    kept = [manifest for manifest in manifests if manifest["kind"] not in _NOT_OURS]
    for manifest in kept:
        if manifest["kind"] == "Service" and manifest["metadata"]["name"] == "istiod":
            # With a selector the controller manager would manage the endpoints, and empty them.
            del manifest["spec"]["selector"]
            kept.append(_endpoints(manifest))
            break
    return kept


def _endpoints(service: Manifest) -> Manifest:
    ports = [
        {
            "name": port["name"],
            "port": port.get("targetPort", port["port"]),
            "protocol": port.get("protocol", "TCP"),
        }
        for port in service["spec"]["ports"]
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "istiod-lab",
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": "istiod",
                "endpointslice.kubernetes.io/managed-by": "voicemesh-lab",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [BRIDGE_ADDRESS], "conditions": {"ready": True}}],
        "ports": ports,
    }


def istiod(program: Path, kubeconfig: Path, manifests: list[Manifest], inputs: str) -> Part:
    """istiod with the environment that the chart gives its container."""
    deployment = next(one for one in manifests if one["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    return Part(
        "istiod",
        (
            *(str(program), "discovery", f"--kubeconfig={kubeconfig}"),
            *(f"--httpAddr=127.0.0.1:{HTTP_PORT}", f"--grpcAddr=127.0.0.1:{PLAIN_XDS_PORT}"),
            f"--httpsAddr={BRIDGE_ADDRESS}:{WEBHOOK_PORT}",
            f"--secureGRPCAddr={BRIDGE_ADDRESS}:{XDS_PORT}",
            f"--monitoringAddr=127.0.0.1:{MONITORING_PORT}",
            "--keepaliveMaxServerConnectionAge=30m",
        ),
        environment
        | {
            # A fixed name keeps the leases of a killed istiod: the next one need not wait for them.
            "POD_NAME": "istiod-lab",
            "POD_NAMESPACE": NAMESPACE,
            "SERVICE_ACCOUNT": "istiod",
            "KUBECONFIG": str(kubeconfig),
            "TOKEN_ISSUER": ISSUER,
            "AUDIENCE": "istio-ca",
            # The lab's token issuers are pods, which may start after istiod has asked for their
            # keys; by default it would ask again after 20 minutes.
            "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL": "10s",
        }
        | UPSTREAM_ENVOY,
        inputs=inputs,
    )


def complete(configuration: Mapping[str, Any]) -> None:
    """Check that istiod has written its CA into every webhook of a configuration."""
    name = configuration["metadata"]["name"]
    for webhook in configuration["webhooks"]:
        if not webhook["clientConfig"].get("caBundle"):
            raise NotYet(f"{name}: istiod has not yet written its CA into {webhook['name']}")
        if webhook["failurePolicy"] != "Fail":
            raise NotYet(f"{name}: failure policy of {webhook['name']} is not yet Fail")


def _release(name: str, values: Mapping[str, Any]) -> HelmRelease:
    return HelmRelease(name, NAMESPACE, name, RELEASE, repository="", values=values)


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as Helm merges values: `high` wins."""
    merged = dict(low)
    for key, value in high.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        elif isinstance(merged.get(key), Mapping):
            raise LabError(f"istiod's value {key} is a mapping and can't become {value!r}")
        else:
            merged[key] = value
    return merged
