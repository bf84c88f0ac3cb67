"""Configuration, order and failure of a check."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.catalogue import BY_ID, POLICIES
from policies.policy import Enforcement, Severity
from policies.run import ConfigError, check
from tests.policies.mutants import Objects

NO_TIMEOUT = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "v", "namespace": "shop"},
    "spec": {
        "hosts": ["a.example"],
        "http": [
            {
                "timeout": "100s",
                "retries": {"attempts": 0},
                "route": [{"destination": {"host": "b.example"}}],
            }
        ],
    },
}


def _ids(config: dict[str, Any]) -> set[str]:
    return {v.policy_id for v in check([NO_TIMEOUT], config)}


def test_a_setting_moves_the_threshold() -> None:
    assert "route-timeout" not in _ids({})
    assert "route-timeout" in _ids({"route-timeout": {"maximum": 60}})


def test_an_enforcement_level_is_taken_as_text_or_setting() -> None:
    for value in ("advisory", {"enforcementLevel": "advisory", "maximum": 60}):
        config = {"route-timeout": value, "deny-by-default": "disabled"}
        found = [v for v in check([NO_TIMEOUT], config) if v.policy_id == "route-timeout"]
        assert [v.enforcement for v in found] in ([], [Enforcement.ADVISORY])
    assert "deny-by-default" not in _ids({"deny-by-default": "disabled"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"no-such-policy": "disabled"}, "there is no policy no-such-policy"),
        ({"route-timeout": {"most": 1}}, "there is no setting 'most' (settings: maximum)"),
        ({"route-timeout": {"maximum": 0}}, "maximum: 0 is below 1"),
        ({"route-timeout": {"maximum": 10**6}}, "above 86400"),
        ({"route-timeout": {"maximum": "60s"}}, "is not a number"),
        ({"route-timeout": {"maximum": True}}, "is not a number"),
        ({"host-exists": {"hosts": "a.example"}}, "is not a list of texts"),
        ({"route-timeout": "sometimes"}, "'sometimes' is none of mandatory"),
        ({"route-timeout": 3}, "give an enforcement level or a mapping"),
        ({"mtls-strict": "disabled"}, "mtls-strict is mandatory and can't be configured away"),
        ({"mtls-strict-root": {"enforcementLevel": "advisory"}}, "can't be configured away"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check([], config)
    assert message in str(refused.value)


def test_the_most_severe_come_first() -> None:
    order = list(Severity)
    severities = [order.index(v.severity) for v in check([NO_TIMEOUT])]
    assert severities == sorted(severities)


def test_nothing_is_nothing() -> None:
    assert check([]) == []


def test_other_peoples_gateways_and_services_are_not_taken_for_istios() -> None:
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"listeners": [{"port": 80, "protocol": "HTTP"}]},
    }
    knative = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"type": "LoadBalancer"},
    }
    assert {v.policy_id for v in check([gateway])} == {"way-in-is-judged", "gateway-api-encrypted"}
    assert check([knative]) == []


def test_an_object_without_the_form_of_its_kind_fails() -> None:
    broken = {**NO_TIMEOUT, "spec": {"hosts": ["a.example"], "http": "everything"}}
    found = [v for v in check([broken]) if "could not be judged" in v.message]
    assert "route-timeout" in {v.policy_id for v in found}
    assert {v.object for v in found} <= {"VirtualService shop/v", "Stack as a whole"}


def test_the_check_changes_no_object(stacks: dict[str, Objects]) -> None:
    before = copy.deepcopy(stacks["prod"])
    check(stacks["prod"])
    assert stacks["prod"] == before


def test_the_order_of_objects_does_not_matter(stacks: dict[str, Objects]) -> None:
    shuffled = list(stacks["prod"])
    random.Random(1).shuffle(shuffled)
    assert check(shuffled) == []


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(p for key, entry in entries for p in _places(entry, (*path, key)))]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_form_of_an_object_ends_in_a_traceback(
    stacks: dict[str, Objects], data: st.DataObject
) -> None:
    objects = stacks["prod"]
    index = data.draw(st.integers(0, len(objects) - 1))
    mutant = copy.deepcopy(objects[index])
    place = data.draw(st.sampled_from([p for p in _places(mutant) if len(p) > 1]))
    wrong = data.draw(st.sampled_from([None, "text", 7, [], {}, [None], {"a": None}, [["x"]]]))
    if place[:1] in {("kind",), ("apiVersion",), ("metadata",)}:
        return  # read by the command line, which refuses such files
    holder = mutant
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = wrong
    for violation in check([*objects[:index], mutant, *objects[index + 1 :]]):
        assert violation.policy_id in BY_ID
        assert violation.message


def test_violations_say_where_and_what_to_do() -> None:
    for violation in check([NO_TIMEOUT], {"route-timeout": {"maximum": 60}}):
        assert violation.object.count(" ") == 1
        assert violation.remedy == BY_ID[violation.policy_id].remedy
        assert violation.url.startswith("https://")
    assert len(POLICIES) == len(BY_ID)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({1: "disabled"}, "no policy 1"),
        ({"route-timeout": 5}, "a mapping of settings"),
        ({"route-timeout": {"enforcementLevel": {}}}, "none of"),
        ({"route-timeout": {"maximum": [5]}}, "is not a number"),
        ({"route-timeout": {"maximum": float("nan")}}, "is no bound"),
        ({"local-limit-works": {"clients": float("inf")}}, "is no bound"),
        ({"route-timeout": {5: 5}}, "no setting 5"),
        ({"metrics-bounded": {"unbounded": ["("]}}, "is no regular expression"),
        ({"metrics-bounded": {"unbounded": [1]}}, "is not a list of texts"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_words(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check([], config)
