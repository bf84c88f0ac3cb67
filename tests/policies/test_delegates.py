"""Routes in a delegate are judged as though they stood in the VirtualService that names it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from manifests import read
from policies.routing import every_route, public_routes
from policies.stack import Stack
from semantics.delegates import merged, narrowed
from tests.policies.variants import SOUND, reported

TO_ORDERS = {"destination": {"host": "orders", "subset": "v1", "port": {"number": 80}}}
FINE = {"route": [TO_ORDERS], "timeout": "5s", "retries": {"attempts": 0}}


def virtual_service(name: str, http: list[dict[str, Any]], *, root: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {"http": http}
    if root:
        spec |= {"hosts": ["api.shop.example"], "gateways": ["istio-system/public"]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def handed_over(own: dict[str, Any], **root: Any) -> list[dict[str, Any]]:
    asked = {"match": [{"uri": {"prefix": "/orders/"}}], "delegate": {"name": "own"}, **root}
    return [
        virtual_service("root", [asked], root=True),
        virtual_service("own", [own], root=False),
    ]


@pytest.mark.parametrize(
    "weak",
    [
        {"route": [TO_ORDERS], "retries": {"attempts": 0}},
        {**FINE, "retries": {"attempts": 2, "retryOn": "5xx"}},
        {**FINE, "fault": {"abort": {"httpStatus": 503}}},
        {**FINE, "corsPolicy": {"allowOrigins": [{"regex": ".*"}]}},
        {**FINE, "route": [{"destination": {"host": "nobody"}}]},
        {**FINE, "match": [{"uri": {"prefix": "/orders/x"}}, {"uri": {"prefix": "/orders/y"}}]},
    ],
)
def test_a_delegate_is_judged_like_the_root(weak: dict[str, Any]) -> None:
    in_place = {"match": [{"uri": {"prefix": "/orders/"}}], **weak}
    assert reported(handed_over(weak)) == reported([virtual_service("x", [in_place], root=True)])


def test_what_the_root_says_counts_for_its_delegate() -> None:
    bare = {"route": [TO_ORDERS]}
    assert "route-timeout" in reported(handed_over(bare))
    said = {"timeout": "5s", "retries": {"attempts": 0}}
    assert not {"route-timeout", "retries-idempotent"} & reported(handed_over(bare, **said))


def test_a_delegate_that_nobody_names_is_judged_alone() -> None:
    alone = virtual_service("alone", [{"route": [TO_ORDERS]}], root=False)
    assert {r.virtual_service["metadata"]["name"] for r in every_route(Stack([alone]))} == {"alone"}


def test_a_delegates_route_is_public_where_the_roots_hosts_are() -> None:
    stack = Stack([*read([SOUND]), *handed_over({"name": "b", "route": [TO_ORDERS]}, name="a")])
    (route,) = [r for r in public_routes(stack) if r.root is not None]
    assert (route.named, route.path, route.matches) == (
        "a-b",
        "spec.http[0]",
        ({"uri": {"prefix": "/orders/"}},),
    )
    assert route.served_by["metadata"]["name"] == "root"


@pytest.mark.parametrize(
    ("wide", "narrow", "both"),
    [
        ("{}", "{}", "{}"),
        ("{uri: {prefix: /a}}", "{}", "{uri: {prefix: /a}}"),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", "{uri: {prefix: /a/b}}"),
        ("{uri: {prefix: /a}}", "{uri: {exact: /ab}}", "{uri: {exact: /ab}}"),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /b}}", None),
        ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}", None),
        ("{uri: {prefix: /a}}", "{uri: {regex: /a.*}}", None),
        ("{uri: {exact: /a}}", "{uri: {exact: /a}}", "{uri: {exact: /a}}"),
        ("{uri: {exact: /a}}", "{uri: {prefix: /a}}", None),
        (
            "{headers: {a: {exact: x}}}",
            "{headers: {b: {exact: y}}, method: {exact: GET}}",
            "{headers: {a: {exact: x}, b: {exact: y}}, method: {exact: GET}}",
        ),
        ("{headers: {a: {exact: x}}}", "{headers: {a: {exact: y}}}", None),
    ],
)
def test_matches_of_both(wide: str, narrow: str, both: str | None) -> None:
    expected = None if both is None else yaml.safe_load(both)
    assert narrowed(yaml.safe_load(wide), yaml.safe_load(narrow)) == expected


def test_headers_of_both() -> None:
    root = {"headers": {"request": {"set": {"a": "1", "b": "1"}, "remove": ["x"]}}}
    own = {
        "headers": {
            "request": {"set": {"b": "2"}, "remove": ["y"]},
            "response": {"add": {"c": "3"}},
        }
    }
    route = merged(root, own)
    assert route is not None
    assert route["headers"] == {
        "request": {"set": {"a": "1", "b": "2"}, "remove": ["x", "y"]},
        "response": {"add": {"c": "3"}},
    }
