"""Objects that no cluster would take are refused in words, before anything is compared."""

from __future__ import annotations

from typing import Any

import pytest

from diff.compare import diff_objects
from model.invalid import InvalidInput
from tests.unit.semantics.mesh_objects import item

SECRET = 7741100
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a list as spec": (
        item("AuthorizationPolicy", "p", []),  # type: ignore[arg-type]
        "AuthorizationPolicy apps/p: spec is a list, a mapping is meant",
    ),
    "text as rules": (
        item("AuthorizationPolicy", "p", {"rules": "all"}),
        "AuthorizationPolicy apps/p: spec.rules is text: Input should be a valid list",
    ),
    "one value for a list": (
        item("AuthorizationPolicy", "p", {"rules": [{"from": [{"source": {"principals": "a"}}]}]}),
        r"spec.rules\[0\].from\[0\].source.principals is text",
    ),
    "no port": (
        item("Gateway", "g", {"servers": [{"port": None, "hosts": ["a"]}]}),
        r"Gateway apps/g: spec.servers\[0\].port is null",
    ),
    "text as weight": (
        item("VirtualService", "v", {"http": [{"route": [{"weight": "x"}]}]}),
        r"spec.http\[0\].route\[0\].weight is text",
    ),
    "a number as header": (
        item("VirtualService", "v", {"http": [{"headers": {"request": {"set": {"a": SECRET}}}}]}),
        r"headers.request.set.a is a number",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_are_refused(name: str) -> None:
    wrong, message = WRONG[name]
    with pytest.raises(InvalidInput, match=message) as refusal:
        diff_objects([], [wrong])
    assert str(SECRET) not in str(refusal.value)
    with pytest.raises(InvalidInput, match=message):
        diff_objects([wrong], [])


@pytest.mark.parametrize(
    "spec",
    [
        {"rules": [{"newField": 1}], "ofAnotherVersion": True},
        {"action": "NEWER", "rules": [{}]},
        {"rules": None},
    ],
)
def test_fields_and_values_of_other_versions_are_not(spec: dict[str, Any]) -> None:
    assert diff_objects([], [item("AuthorizationPolicy", "p", spec)]).objects


def test_a_port_may_be_a_number_as_yaml_reads_it() -> None:
    spec = {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {8080: {"mode": "STRICT"}}}
    assert diff_objects([], [item("PeerAuthentication", "p", spec)]).objects
