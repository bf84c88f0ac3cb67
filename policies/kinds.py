"""Which kinds policies read, and what `kubectl get` calls them: a check sees what it is given."""

from __future__ import annotations

from policies.mesh_config import RELEASE_KINDS

RESOURCES = {
    "Namespace": "namespaces",
    "Service": "services",
    "Endpoints": "endpoints",
    "EndpointSlice": "endpointslices.discovery.k8s.io",
    "ServiceAccount": "serviceaccounts",
    "ConfigMap": "configmaps",
    "Pod": "pods",
    "ReplicationController": "replicationcontrollers",
    "Deployment": "deployments.apps",
    "StatefulSet": "statefulsets.apps",
    "DaemonSet": "daemonsets.apps",
    "ReplicaSet": "replicasets.apps",
    "Job": "jobs.batch",
    "CronJob": "cronjobs.batch",
    "Rollout": "rollouts.argoproj.io",
    "Ingress": "ingresses.networking.k8s.io",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "PeerAuthentication": "peerauthentications.security.istio.io",
    "RequestAuthentication": "requestauthentications.security.istio.io",
    "AuthorizationPolicy": "authorizationpolicies.security.istio.io",
    "VirtualService": "virtualservices.networking.istio.io",
    "DestinationRule": "destinationrules.networking.istio.io",
    "Gateway": "gateways.networking.istio.io",
    "Sidecar": "sidecars.networking.istio.io",
    "ServiceEntry": "serviceentries.networking.istio.io",
    "WorkloadEntry": "workloadentries.networking.istio.io",
    "WorkloadGroup": "workloadgroups.networking.istio.io",
    "EnvoyFilter": "envoyfilters.networking.istio.io",
    "ProxyConfig": "proxyconfigs.networking.istio.io",
    "Telemetry": "telemetries.telemetry.istio.io",
    "WasmPlugin": "wasmplugins.extensions.istio.io",
    "TrafficExtension": "trafficextensions.extensions.istio.io",
    "Gateway.gateway.networking.k8s.io": "gateways.gateway.networking.k8s.io",
    "ListenerSet": "listenersets.gateway.networking.k8s.io",
    "XListenerSet": "xlistenersets.gateway.networking.x-k8s.io",
    "HTTPRoute": "httproutes.gateway.networking.k8s.io",
    "GRPCRoute": "grpcroutes.gateway.networking.k8s.io",
    "TLSRoute": "tlsroutes.gateway.networking.k8s.io",
    "TCPRoute": "tcproutes.gateway.networking.k8s.io",
    "UDPRoute": "udproutes.gateway.networking.k8s.io",
    "HelmRelease": "helmreleases.helm.toolkit.fluxcd.io",
}
"""Resources by kind, with their groups: `gateways` alone may be either of two."""
NOT_EXPORTED = {
    "Secret": "their contents would lie in a file; a Gateway's certificate is judged by its name",
    **{kind: "stands in no cluster" for kind in RELEASE_KINDS if kind not in RESOURCES},
}
"""Kinds that policies read and that the export leaves out, with the reason."""
