"""The rate-limit service and Redis: configured for every limit, reachable by nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from components.objects import Declared, GeneratedSecret, Manifest
from components.rate_limit import RateLimitArgs, RateLimitService, config
from components.rate_limit_workload import CONFIG_HASH
from model import stack_file
from model.catalogue import catalogue
from model.settings import Allowance, RateLimits, Redis, Size

PLATFORM = catalogue()
STACKS = ("dev", "staging", "prod")


def args(stack: str = "dev", **changes: Any) -> RateLimitArgs:
    settings = stack_file.load(stack, PLATFORM)
    limits = RateLimits.model_validate({**dict(settings.rate_limits), **changes})
    return RateLimitArgs(
        stack=stack,
        namespaces=settings.namespaces,
        trust_domain="cluster.local",
        rate_limits=limits,
        catalogue=PLATFORM,
        traffic=settings.traffic,
        collector=settings.telemetry.collector,
    )


def declared(stack: str = "dev", **changes: Any) -> tuple[Declared, ...]:
    return RateLimitService.build(args(stack, **changes))


def one(kind: str, name: str, objects: tuple[Declared, ...]) -> Manifest:
    (found,) = (
        item
        for item in objects
        if isinstance(item, dict) and (item["kind"], item["metadata"]["name"]) == (kind, name)
    )
    return found


def kinds(objects: tuple[Declared, ...]) -> set[tuple[str, str]]:
    return {(o["kind"], o["metadata"]["name"]) for o in objects if isinstance(o, dict)}


def container(name: str, objects: tuple[Declared, ...]) -> dict[str, Any]:
    (found,) = one("Deployment", name, objects)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_login_is_by_address_everything_with_a_token_by_tenant() -> None:
    limits: Any = {
        "per_tenant": Allowance(requests=50, unit="second"),
        "login": Allowance(requests=10, unit="minute"),
        "routes": {"/api/v1/ai": Allowance(requests=600, unit="hour")},
    }
    rules = yaml.safe_load(config(args("dev", **limits)))
    assert rules["domain"] == "voicemesh"
    assert {rule["key"] for rule in rules["descriptors"]} == {"route"}
    found = {
        rule["value"]: [(item["key"], item["rate_limit"]) for item in rule["descriptors"]]
        for rule in rules["descriptors"]
    }
    per_tenant = ("tenant", {"unit": "second", "requests_per_unit": 50})
    assert found.pop("/api/v1/auth") == [
        ("masked_remote_address", {"unit": "minute", "requests_per_unit": 10})
    ]
    assert found.pop("/api/v1/ai") == [("tenant", {"unit": "hour", "requests_per_unit": 600})]
    tokens = {route.path for _, route in PLATFORM.exposures if route.access == "token"}
    sockets = {socket.path for service in PLATFORM.services for socket in service.websockets}
    grpc = {f"/{grpc.name}" for service in PLATFORM.services for grpc in service.grpc}
    assert set(found) == (tokens | sockets | grpc) - {"/api/v1/ai"}
    assert all(rule == [per_tenant] for rule in found.values())


def test_a_new_configuration_brings_new_pods_and_nothing_else_does() -> None:
    def digest(**changes: Any) -> str:
        template = one("Deployment", "ratelimit", declared(**changes))["spec"]["template"]
        return str(template["metadata"]["annotations"][CONFIG_HASH])

    assert digest() == digest(tracked_addresses=500)
    assert digest() != digest(per_tenant=Allowance(requests=51, unit="second"))


def test_the_configuration_is_where_the_service_looks() -> None:
    objects = declared()
    rate_limit = container("ratelimit", objects)
    environment = {item["name"]: item.get("value") for item in rate_limit["env"]}
    (mount,) = rate_limit["volumeMounts"]
    root, below = environment["RUNTIME_ROOT"], environment["RUNTIME_SUBDIRECTORY"]
    assert mount["mountPath"] == f"{root}/{below}/config"
    volumes = one("Deployment", "ratelimit", objects)["spec"]["template"]["spec"]["volumes"]
    assert volumes == [{"name": mount["name"], "configMap": {"name": "ratelimit"}}]
    assert one("ConfigMap", "ratelimit", objects)["data"] == {"config.yaml": config(args())}


def test_one_password_at_both_ends_and_in_no_object() -> None:
    objects = declared()
    (secret,) = (item for item in objects if isinstance(item, GeneratedSecret))
    assert secret.labels["app.kubernetes.io/instance"] == "dev"
    namespaces = {secret.namespace, *secret.also_in}
    for name, variable in (("ratelimit", "REDIS_AUTH"), ("ratelimit-redis", "REDIS_PASSWORD")):
        (found,) = (e for e in container(name, objects)["env"] if e["name"] == variable)
        assert found["valueFrom"]["secretKeyRef"] == {"name": secret.name, "key": secret.key}
        assert "value" not in found
        assert one("Deployment", name, objects)["metadata"]["namespace"] in namespaces
    # Arguments show in lists of processes: the shell reads the variable, not Redis.
    shell, flag, script = container("ratelimit-redis", objects)["command"]
    assert (shell, flag) == ("sh", "-c")
    command, _, standard_input = script.partition("<<END\n")
    assert command.startswith("exec redis-server -")
    assert "REDIS_PASSWORD" not in command
    assert standard_input == "requirepass $REDIS_PASSWORD\nEND\n"


def test_only_the_gateway_asks() -> None:
    policy = one("AuthorizationPolicy", "ratelimit-gateway", declared())
    assert policy["spec"] == {
        "selector": {"matchLabels": {"app": "ratelimit"}},
        "action": "ALLOW",
        "rules": [
            {
                "from": [
                    {
                        "source": {
                            "principals": ["cluster.local/ns/istio-system/sa/istio-ingressgateway"]
                        }
                    }
                ],
                "to": [{"operation": {"ports": ["8081"]}}],
            }
        ],
    }


def test_only_the_service_reaches_redis() -> None:
    objects = declared()
    policy = one("NetworkPolicy", "ratelimit-redis", objects)["spec"]
    redis = one("Deployment", "ratelimit-redis", objects)
    labels = redis["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    client = one("Deployment", "ratelimit", objects)
    client_labels = client["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= client_labels.items()
    assert peer["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": client["metadata"]["namespace"]
    }
    assert rule["ports"] == [{"port": 6379, "protocol": "TCP"}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy, "Redis has nobody to call"


@pytest.mark.parametrize(
    ("address", "hosts", "sidecar"),
    [
        (
            "redis.example.com:6380",
            {"hosts": ["redis.example.com"], "resolution": "DNS"},
            "./redis.example.com",
        ),
        (
            "198.51.100.7:6380",
            {
                "hosts": ["ratelimit-redis.external"],
                "addresses": ["198.51.100.7"],
                "endpoints": [{"address": "198.51.100.7"}],
                "resolution": "STATIC",
            },
            "./ratelimit-redis.external",
        ),
        ("redis.data.svc.cluster.local:6380", None, "data/redis.data.svc.cluster.local"),
    ],
)
def test_external_redis(address: str, hosts: dict[str, Any] | None, sidecar: str) -> None:
    redis = Redis(mode="external", address=address, password_secret="their-redis")
    objects = declared(redis=redis)
    assert not any(isinstance(item, GeneratedSecret) for item in objects)
    assert ("Deployment", "ratelimit-redis") not in kinds(objects)
    environment = {item["name"]: item for item in container("ratelimit", objects)["env"]}
    assert environment["REDIS_URL"]["value"] == address
    assert environment["REDIS_AUTH"]["valueFrom"]["secretKeyRef"]["name"] == "their-redis"
    (listener,) = one("Sidecar", "ratelimit", objects)["spec"]["egress"]
    assert listener["hosts"][0] == sidecar
    if hosts is None:
        assert ("ServiceEntry", "ratelimit-redis") not in kinds(objects)
    else:
        entry = one("ServiceEntry", "ratelimit-redis", objects)
        assert entry["metadata"]["namespace"] == "voiceassistant-dev"
        port = {"number": 6380, "name": "tcp-redis", "protocol": "TCP"}
        assert entry["spec"].items() >= {**hosts, "ports": [port], "exportTo": ["."]}.items()


@pytest.mark.parametrize(
    ("size", "autoscaled", "budget"),
    [
        (Size(replicas=1, max_replicas=1), False, False),
        (Size(replicas=2, max_replicas=2), False, True),
        (Size(replicas=1, max_replicas=3), True, False),
        (Size(replicas=3, max_replicas=6), True, True),
    ],
)
def test_size(size: Size, autoscaled: bool, budget: bool) -> None:
    objects = declared(size=size)
    assert (("HorizontalPodAutoscaler", "ratelimit") in kinds(objects)) is autoscaled
    assert (("PodDisruptionBudget", "ratelimit") in kinds(objects)) is budget
    # A number here would undo the autoscaler's with every update.
    deployment = one("Deployment", "ratelimit", objects)["spec"]
    assert deployment.get("replicas") == (None if autoscaled else size.replicas)
    if autoscaled:
        scaler = one("HorizontalPodAutoscaler", "ratelimit", objects)["spec"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (size.replicas, size.max_replicas)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", ["ratelimit", "ratelimit-redis"])
def test_pods_may_do_nothing_they_need_not(stack: str, name: str) -> None:
    objects = declared(stack)
    pod = one("Deployment", name, objects)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    only = container(name, objects)
    context = only["securityContext"]
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert set(only["resources"]) == {"requests", "limits"}
    ports = {port["containerPort"] for port in only["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        check = only[probe].get("httpGet") or only[probe]["tcpSocket"]
        assert check["port"] in ports


@pytest.mark.parametrize("stack", STACKS)
def test_services_select_pods_and_name_protocols(stack: str) -> None:
    objects = declared(stack)
    for name, ports in (
        ("ratelimit", {"grpc": 8081, "http": 8080, "metrics": 9090}),
        ("ratelimit-redis", {"tcp-redis": 6379}),
    ):
        service = one("Service", name, objects)["spec"]
        assert {p["name"]: p["port"] for p in service["ports"]} == ports
        assert all(p["appProtocol"] for p in service["ports"])
        listening = {p["containerPort"] for p in container(name, objects)["ports"]}
        assert {p["targetPort"] for p in service["ports"]} <= listening
        labels = one("Deployment", name, objects)["spec"]["template"]["metadata"]["labels"]
        assert service["selector"].items() <= labels.items()
