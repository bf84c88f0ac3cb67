"""Namespaces, accounts, Services and the pods that stand in for the product."""

from __future__ import annotations

import re
from typing import Any

import pytest

import mesh
from components.objects import Manifest
from model import stack_file
from model.catalogue import catalogue
from model.settings import Override, Size

CATALOGUE = catalogue()
STACKS = ("dev", "staging", "prod")


def built(stack: str, part_name: str, **changes: Any) -> list[Manifest]:
    settings = stack_file.load(stack, CATALOGUE).model_copy(update=changes)
    (part,) = [part for part in mesh.parts(stack, settings, CATALOGUE) if part.name == part_name]
    return [declared for declared in part.objects() if isinstance(declared, dict)]


def of(kind: str, manifests: list[Manifest]) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


@pytest.mark.parametrize("stack", STACKS)
def test_every_service_has_an_account_and_a_service_of_its_name(stack: str) -> None:
    manifests = built(stack, "workloads")
    accounts, services = of("ServiceAccount", manifests), of("Service", manifests)
    assert tuple(accounts) == tuple(services) == CATALOGUE.names
    for account in accounts.values():
        assert account["automountServiceAccountToken"] is False
    for service in CATALOGUE.services:
        spec = services[service.name]["spec"]
        assert spec["selector"] == {"app": service.name}
        assert [(p["name"], p["port"], p["targetPort"]) for p in spec["ports"]] == [
            (port.name, port.number, port.number) for port in service.ports
        ]


@pytest.mark.parametrize("stack", STACKS)
def test_istio_knows_every_ports_protocol(stack: str) -> None:
    """A port left to detection can fall to TCP and lose its HTTP authorization."""
    for service in of("Service", built(stack, "workloads")).values():
        declared = {p["name"]: p["appProtocol"] for p in service["spec"]["ports"]}
        wanted = {
            port.name: {"http": "http", "http2": "kubernetes.io/h2c", "grpc": "grpc"}[port.protocol]
            for port in CATALOGUE.service(service["metadata"]["name"]).ports
        }
        assert declared == wanted


def test_the_platform_runs_its_own_pods_unless_asked() -> None:
    assert of("Deployment", built("prod", "workloads")) == {}
    assert of("Deployment", built("staging", "workloads")) == {}


def test_echo_runs_every_version_of_every_service() -> None:
    deployments = of("Deployment", built("dev", "workloads"))
    wanted = {
        f"{service.name}-{version}"
        for service in CATALOGUE.services
        for version in ([subset.version for subset in service.subsets] or ["v1"])
    }
    assert set(deployments) == wanted
    for deployment in deployments.values():
        template = deployment["spec"]["template"]
        assert template["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
        assert template["spec"]["serviceAccountName"] == template["metadata"]["labels"]["app"]


def test_echo_listens_on_the_declared_ports_alone() -> None:
    for deployment in of("Deployment", built("dev", "workloads")).values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        labels = deployment["metadata"]["labels"]
        service = CATALOGUE.service(labels["app"])
        flags: dict[str, list[str]] = {}
        for argument in container["args"]:
            flag, value = re.fullmatch(r"--([a-z]+)=(.+)", argument).groups()  # type: ignore[union-attr]
            flags.setdefault(flag, []).append(value)
        assert flags["version"] == [labels["version"]]
        by_flag = {"metrics": [], "grpc": [], "port": []}  # type: dict[str, list[str]]
        for port in service.ports:
            flag = "metrics" if port.metrics else "grpc" if port.protocol == "grpc" else "port"
            by_flag[flag].append(str(port.number))
        for flag, numbers in by_flag.items():
            if numbers:
                assert flags[flag] == numbers
        # The server's own defaults (7070, 9090) must not clash with what is declared.
        declared = {str(port.number) for port in service.ports}
        assert not set(flags["tcp"]) & declared
        assert {str(p["containerPort"]) for p in container["ports"]} == declared


def test_echo_pods_are_confined() -> None:
    for deployment in of("Deployment", built("dev", "workloads")).values():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["runAsUser"] != 1337, "istio-proxy's own user"


def test_a_size_of_one_service_is_its_own() -> None:
    services = {"rag-engine": Override(size=Size(replicas=3, max_replicas=3, cpu="20m"))}
    deployments = of("Deployment", built("dev", "workloads", services=services))
    assert deployments["rag-engine-v1"]["spec"]["replicas"] == 3
    assert deployments["agent-engine-v1"]["spec"]["replicas"] == 1


@pytest.mark.parametrize("stack", STACKS)
def test_namespaces(stack: str) -> None:
    settings = stack_file.load(stack, CATALOGUE)
    namespaces = of("Namespace", built(stack, "namespaces"))
    labels = {name: one["metadata"]["labels"] for name, one in namespaces.items()}
    assert labels[settings.namespaces.apps]["istio-injection"] == "enabled"
    assert labels[settings.namespaces.infra]["istio-injection"] == "disabled"
    installed = settings.control_plane.mode == "install"
    assert (settings.namespaces.mesh in labels) == installed
    if installed:
        # Any value would keep the gateway's pods from being injected.
        assert "istio-injection" not in labels[settings.namespaces.mesh]
