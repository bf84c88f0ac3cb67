"""Routes: each request of the platform finds exactly the route meant for it."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue
from model.settings import Settings
from model.values import seconds

CATALOGUE = catalogue()
SETTINGS = {stack: stack_file.load(stack, CATALOGUE) for stack in ("dev", "staging", "prod")}


@functools.cache
def objects(stack: str, kind: str) -> list[dict[str, Any]]:
    return [
        declared
        for part in mesh.parts(stack, SETTINGS[stack], CATALOGUE)
        for declared in part.objects()
        if isinstance(declared, dict) and declared["kind"] == kind
    ]


def string_matches(match: dict[str, str] | None, value: str | None) -> bool:
    match match:
        case None:
            return True
        case {"exact": exact}:
            return value == exact
        case {"prefix": prefix}:
            return value is not None and value.startswith(prefix)
        case {"regex": regex}:
            return value is not None and re.fullmatch(regex, value) is not None
    raise AssertionError(match)


def find_route(
    host: str, method: str, path: str, headers: dict[str, str], stack: str = "prod"
) -> dict[str, Any] | None:
    """The first HTTP route of the host that the request matches, as Envoy would look for it."""
    found = [
        route
        for virtual_service in objects(stack, "VirtualService")
        if host in virtual_service["spec"]["hosts"]
        for route in virtual_service["spec"]["http"]
        if any(
            string_matches(match.get("uri"), path)
            and string_matches(match.get("method"), method)
            and all(
                string_matches(wanted, headers.get(name))
                for name, wanted in match.get("headers", {}).items()
            )
            for match in route["match"]
        )
    ]
    hosts = {route["route"][0]["destination"]["host"] for route in found}
    assert len(hosts) <= 1, f"{path} is claimed by {hosts}"
    return found[0] if found else None


@pytest.mark.parametrize("exposure", CATALOGUE.exposures, ids=lambda e: e.route.path)
@pytest.mark.parametrize("below", ["", "/7", "/7/items"])
def test_each_route_of_the_catalogue_reaches_its_service(exposure: Any, below: str) -> None:
    service, route = exposure
    for method in route.methods or ("GET", "POST", "PUT", "DELETE"):
        found = find_route("api.voiceassistant.com", method, route.path + below, {})
        assert found is not None
        destination = found["route"][0]["destination"]
        assert destination["host"] == f"{service.name}.voiceassistant-prod.svc.cluster.local"
        assert destination["port"]["number"] == service.port(route.port).number


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v1"),
        ("GET", "/api/v1/usersx"),
        ("GET", "/api/v1/ai"),
        ("DELETE", "/api/v1/analytics"),
        ("POST", "/health"),
        ("GET", "/API/v1/users"),
        ("GET", "/metrics"),
    ],
)
def test_nothing_else_is_routed(method: str, path: str) -> None:
    assert find_route("api.voiceassistant.com", method, path, {}) is None


@pytest.mark.parametrize(
    ("headers", "subset"),
    [
        ({}, None),
        ({"x-cohort": "beta"}, "canary"),
        ({"x-cohort": "betaX"}, None),
        ({"cookie": "cohort=beta"}, "canary"),
        ({"cookie": "a=b; cohort=beta; c=d"}, "canary"),
        ({"cookie": "xcohort=beta"}, None),
        ({"cookie": "cohort=beta2"}, None),
    ],
)
def test_cohorts_meet_their_subset(headers: dict[str, str], subset: str | None) -> None:
    found = find_route(
        "api.voiceassistant.com", "GET", "/api/v1/conversations", headers, stack="prod"
    )
    assert found is not None
    subsets = [target["destination"]["subset"] for target in found["route"]]
    assert subsets == ([subset] if subset else ["v1", "canary"])
    assert [target.get("weight") for target in found["route"]] == ([None] if subset else [95, 5])


@pytest.mark.parametrize("stack", SETTINGS)
def test_retries_fit_into_the_timeout_and_never_repeat_ai_writes(stack: str) -> None:
    ai = {service.name for service in CATALOGUE.services if service.ai}
    for virtual_service in objects(stack, "VirtualService"):
        for route in virtual_service["spec"]["http"]:
            retries, part = route["retries"], route["name"].split(".")
            service = part[0]
            if "perTryTimeout" in retries:
                tries = retries["attempts"] + 1
                assert seconds(retries["perTryTimeout"]) * tries <= seconds(route["timeout"])
            if retries["attempts"] and ("write" in part or "grpc" in part):
                assert service not in ai
                assert "gateway-error" not in retries["retryOn"]
                assert "perTryTimeout" not in retries
            # Else Istio repeats at the same instance where hashing is consistent.
            assert retries.get("retryIgnorePreviousHosts", False) == (retries["attempts"] > 0)
            if "stream" in part or "websocket" in part:
                assert retries == {"attempts": 0}


def test_public_routes_drop_the_headers_that_only_a_token_may_set() -> None:
    for virtual_service in objects("prod", "VirtualService"):
        for route in virtual_service["spec"]["http"]:
            public = any(
                name in route["name"] for name in ("api.v1.auth", "health", ".ready", "healthz")
            )
            removed = route.get("headers", {}).get("request", {}).get("remove", [])
            assert removed == (["x-tenant-id", "x-user-id", "x-user-role"] if public else [])


@pytest.mark.parametrize("stack", SETTINGS)
def test_route_names_are_unique(stack: str) -> None:
    names = [
        route["name"]
        for virtual_service in objects(stack, "VirtualService")
        for route in virtual_service["spec"]["http"]
    ]
    assert len(names) == len(set(names))


@given(
    st.dictionaries(
        st.sampled_from(["timeout", "retries"]), st.integers(min_value=1, max_value=10), min_size=1
    )
)
def test_an_override_changes_only_its_service(changes: dict[str, int]) -> None:
    override = {
        key: f"{60 * value}s" if key == "timeout" else value for key, value in changes.items()
    }
    settings = Settings.model_validate(
        {**SETTINGS["prod"].model_dump(), "services": {"rag-engine": override}}
    )
    before, after = _specs(SETTINGS["prod"], CATALOGUE), _specs(settings, CATALOGUE)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"rag-engine", "rag-engine-mesh"}


def _specs(settings: Settings, services: Catalogue) -> dict[str, Any]:
    return {
        declared["metadata"]["name"]: declared["spec"]
        for part in mesh.parts("prod", settings, services)
        if part.name in services.names
        for declared in part.objects()
        if isinstance(declared, dict) and declared["kind"] == "VirtualService"
    }
