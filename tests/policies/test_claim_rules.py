"""Rules about claims that agree though they are written differently, and such as only seem to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import render
from manifests import read
from model.access import Catalogue
from model.catalogue import catalogue
from model.service import Restriction, Route
from policies.claim_rules import known_addresses
from policies.run import check

SOUND = Path(__file__).parent / "testdata" / "sound.yaml"
ABOUT_CLAIMS = {"declared-claims-demanded", "claims-checked-twice", "admin-from-known-addresses"}
Objects = list[dict[str, Any]]


def rules(objects: Objects, name: str) -> list[dict[str, Any]]:
    item = next(o for o in objects if o["metadata"]["name"] == name)
    found: list[dict[str, Any]] = item["spec"]["rules"]
    return found


def split(name: str, index: int, *operations: dict[str, Any]) -> Callable[[Objects], None]:
    """Replaces a rule by several, each with further fields."""

    def change(objects: Objects) -> None:
        rule = rules(objects, name).pop(index)
        before = rule["to"][0]["operation"]
        for fields in operations:
            rules(objects, name).append({**rule, "to": [{"operation": {**before, **fields}}]})

    return change


def rewritten(objects: Objects) -> None:
    """The service sees other paths than the gateway."""
    vs = next(o for o in objects if o["kind"] == "VirtualService")
    for route in vs["spec"]["http"][1:3]:
        route["rewrite"] = {"uri": "/inner"}
    rules(objects, "orders-claims")[1]["to"][0]["operation"]["paths"] = ["/inner/admin"]


def named_port(objects: Objects) -> None:
    """The Service names its pods' port by a name, which the pods tell of."""
    service = next(
        o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "orders"
    )
    service["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": "web"}]
    pods = next(o for o in objects if o["metadata"]["name"] == "orders-canary")
    container = pods["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"containerPort": 8080, "name": "web"}]


def reported(change: Callable[[Objects], None]) -> set[str]:
    objects: Objects = [dict(copy.deepcopy(o)) for o in read([SOUND])]
    change(objects)
    return {v.policy_id for v in check(objects)} & ABOUT_CLAIMS


@pytest.mark.parametrize(
    "change",
    [
        split("orders-claims", 0, {"methods": ["GET"]}, {"notMethods": ["GET"]}),
        split("orders-claims", 0, {"paths": ["/orders*"]}, {"notPaths": ["/orders*"]}),
        split("orders-claims", 0, {"ports": ["8080"]}, {"ports": ["9999"]}),
        split("gateway-claims", 0, {"ports": ["443"]}, {"ports": ["15443"]}),
        split("gateway-claims", 1, {"hosts": ["api.shop.example", "api.shop.example:*"]}),
        split("gateway-claims", 0, {"notMethods": ["OPTIONS"]}),
        split("gateway-addresses", 0, {"notMethods": ["OPTIONS"]}),
        rewritten,
        named_port,
    ],
)
def test_what_is_refused_is_what_counts(change: Callable[[Objects], None]) -> None:
    assert reported(change) == set()


@pytest.mark.parametrize(
    ("change", "policy"),
    [
        (split("orders-claims", 0, {"methods": ["GET"]}), "declared-claims-demanded"),
        (split("orders-claims", 0, {"ports": ["9999"]}), "declared-claims-demanded"),
        (split("orders-claims", 1, {"hosts": ["api.shop.example"]}), "claims-checked-twice"),
        (split("gateway-claims", 0, {"notPaths": ["/orders/*"]}), "claims-checked-twice"),
        (split("gateway-claims", 1, {"ports": ["443"]}), "claims-checked-twice"),
        (split("gateway-claims", 1, {"methods": ["DELETE", "PUT"]}), "claims-checked-twice"),
        (split("gateway-addresses", 0, {"ports": ["443"]}), "admin-from-known-addresses"),
    ],
)
def test_what_is_left_open_is_found(change: Callable[[Objects], None], policy: str) -> None:
    assert policy in reported(change)


@pytest.mark.parametrize(
    ("blocks", "known"),
    [
        (["198.51.100.0/24", "192.0.2.7"], True),
        (["10.0.0.0/8"], True),
        (["0.0.0.0/0"], False),
        (["0.0.0.0/1", "128.0.0.0/1"], False),
        (["198.51.100.0/24", "::/0"], False),
        (["not an address"], True),
    ],
)
def test_a_list_of_addresses_is_not_half_the_internet(blocks: list[str], known: bool) -> None:
    assert known_addresses(blocks) is known


@pytest.mark.parametrize(
    "route",
    [
        Route(path="/api/v1/more", restricted=(Restriction(roles=("admin",)),)),
        Route(
            path="/api/v1/more",
            methods=("GET", "POST"),
            restricted=(
                Restriction(methods=("GET",), roles=("admin", "auditor")),
                Restriction(methods=("POST",), roles=("admin",)),
            ),
        ),
    ],
    ids=["every method", "two restrictions"],
)
def test_other_restrictions_in_the_catalogue_agree_too(route: Route) -> None:
    services = [
        s.model_copy(update={"routes": (*s.routes, route)}) if s.name == "knowledge-service" else s
        for s in catalogue().services
    ]
    objects = render.objects("prod", Catalogue(services=tuple(services)))
    assert check(o for o in objects if o["kind"] != "CustomResourceDefinition") == []
