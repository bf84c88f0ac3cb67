"""The Pulumi program registers exactly what is rendered, in an order that never opens the mesh."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pulumi
import pytest

import mesh
import render
from components.objects import IGNORE_CHANGES, GeneratedSecret, HelmRelease, Manifest
from model import stack_file
from model.catalogue import catalogue
from tests.engine import recorded
from tests.engine.recorded import Registered, Run

RELEASE = "kubernetes:helm.sh/v3:Release"
PASSWORD = "random:index/randomPassword:RandomPassword"


def test_objects_are_the_rendered_ones(stack: str, program: Run) -> None:
    """Byte for byte, once 15001.0 and 15001 are the same number: every key in its casing."""
    declared = [one for one in render.declared(stack) if isinstance(one, dict)]
    registered = [dict(one.inputs) for one in program.registered if _is_object(one)]
    assert _texts(registered) == _texts(declared)


def test_typed_config_of_envoy_filters_arrives_as_it_was_built(stack: str, program: Run) -> None:
    """Envoy's own keys are snake_case: a provider that renames them makes filters of no effect."""
    built = {
        one["metadata"]["name"]: one
        for one in render.declared(stack)
        if isinstance(one, dict) and one["kind"] == "EnvoyFilter"
    }
    sent = {
        one.inputs["metadata"]["name"]: one.inputs
        for one in program.registered
        if one.type.endswith(":EnvoyFilter")
    }
    assert sent.keys() == built.keys()
    keys = {key for one in sent.values() for key in _keys(one["spec"])}
    assert {"typed_config", "@type", "configPatches"} <= keys
    for name, one in built.items():
        assert _text(sent[name]["spec"]) == _text(one["spec"])


def test_releases_are_the_declared_ones(stack: str, program: Run) -> None:
    declared = [one for one in render.declared(stack) if isinstance(one, HelmRelease)]
    registered = {one.name: one.inputs for one in program.registered if one.type == RELEASE}
    assert registered.keys() == {release.name for release in declared}
    for release in declared:
        inputs = registered[release.name]
        assert _text(inputs["values"]) == _text(dict(release.values))
        assert inputs["name"] == release.name
        assert inputs["namespace"] == release.namespace
        assert inputs["chart"] == release.chart
        assert inputs["version"] == release.version
        assert inputs["repositoryOpts"] == {"repo": release.repository}


def test_passwords_are_made_by_the_engine_and_stay_secret(stack: str, program: Run) -> None:
    declared = [one for one in render.declared(stack) if isinstance(one, GeneratedSecret)]
    passwords = [one for one in program.registered if one.type == PASSWORD]
    assert len(passwords) == len(declared)
    secrets = {
        one.name: one for one in program.registered if one.type == "kubernetes:core/v1:Secret"
    }
    for secret in declared:
        for namespace in (secret.namespace, *secret.also_in):
            inputs = secrets.pop(f"{namespace}/{secret.name}").inputs
            assert inputs["metadata"] == {
                "name": secret.name,
                "namespace": namespace,
                "labels": dict(secret.labels),
            }
            # The value travels as a Pulumi secret, which the state encrypts.
            value = inputs["stringData"]
            assert pulumi.runtime.rpc.is_rpc_secret(value) or all(
                pulumi.runtime.rpc.is_rpc_secret(one) for one in value.values()
            )
    assert not secrets, "a Secret that nobody declared"
    assert all("result" in one.secret for one in passwords)


def test_nothing_else_is_registered(stack: str, program: Run) -> None:
    declared = render.declared(stack)
    secrets = [one for one in declared if isinstance(one, GeneratedSecret)]
    waits = sum(len(one.ready_when) for one in declared if isinstance(one, HelmRelease))
    copies = sum(len(one.also_in) + 1 for one in secrets)
    components = [one for one in program.registered if not one.custom and _own(one)]
    # In the place of a generated Secret: its password, and a Secret in each namespace.
    assert len(program.registered) == len(declared) + copies + waits + len(components)


def test_every_part_is_a_component(stack: str, program: Run) -> None:
    services = catalogue()
    parts = mesh.parts(stack, stack_file.load(stack, services), services)
    components = {one.name: one for one in program.registered if _own(one)}
    assert components.keys() == {part.name for part in parts}
    for part in parts:
        one = components[part.name]
        assert one.type == part.component.token
        assert not one.custom
        # register_outputs was called: a component that never says it is done is an error to the
        # engine's users, who see it as still being made.
        children = [c.name for c in program.registered if c.parent == one.urn]
        named = program.outputs[one.urn]["objects"]
        assert set(named) <= set(children)


def test_urns_are_unique_and_readable(program: Run) -> None:
    counts = Counter(one.urn for one in program.registered)
    assert not [urn for urn, count in counts.items() if count > 1]
    for one in program.registered:
        assert one.parent or _own(one)
        if _is_object(one):
            metadata = one.inputs["metadata"]
            namespace = f"{metadata['namespace']}/" if "namespace" in metadata else ""
            assert one.name == f"{namespace}{metadata['name']}"


def test_urns_are_the_same_on_every_run(stack: str, program: Run) -> None:
    again = recorded.run(stack)
    assert {one.urn for one in again.registered} == {one.urn for one in program.registered}


def test_a_new_service_renames_no_other(
    stack: str, program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """URNs do not depend on a service's place in the catalogue."""
    from model import catalogue as module
    from model.access import Catalogue

    services = module.services()
    first = services[0].model_copy(
        update={"name": "aaa-service", "routes": (), "grpc": (), "websockets": (), "callers": ()}
    )
    monkeypatch.setattr(module, "catalogue", lambda: Catalogue(services=(first, *services)))
    more = {one.urn for one in recorded.run(stack).registered}
    assert {one.urn for one in program.registered} < more
    assert all("aaa-service" in urn for urn in more - {one.urn for one in program.registered})


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        # A route exists only after every policy that guards it.
        ("VirtualService", "AuthorizationPolicy"),
        ("VirtualService", "RequestAuthentication"),
        ("VirtualService", "PeerAuthentication"),
        ("Gateway", "AuthorizationPolicy"),
        # Nobody is sent to a service before its routes and the way to it are there.
        ("Gateway", "VirtualService"),
        ("Gateway", "DestinationRule"),
        # What is refused without a token needs to know what a token is.
        ("AuthorizationPolicy", "RequestAuthentication"),
        ("AuthorizationPolicy", "Namespace"),
        ("Deployment", "Namespace"),
        # Nobody is let in before what limits and filters is there.
        ("Gateway", "EdgeFilters$kubernetes:networking.istio.io/v1alpha3:EnvoyFilter"),
    ],
)
def test_order(later: str, earlier: str, program: Run) -> None:
    """The rate-limit service, which is no route's, brings its own policy and has its own order."""
    before = _before(program)
    needed = {
        one.urn
        for one in program.registered
        if one.urn.split("::")[2].endswith(f":{earlier}") and "RateLimitService" not in one.urn
    }
    things = [one for one in program.registered if one.type.endswith(f":{later}")]
    assert needed
    assert things
    for thing in things:
        assert needed <= before[thing.urn], f"{thing.name} may come before a {earlier}"


def test_custom_resources_come_after_their_definitions_and_istiod(stack: str, program: Run) -> None:
    releases = {one.urn for one in program.registered if one.type == RELEASE}
    settings = stack_file.load(stack, catalogue())
    assert len(releases) == (3 if settings.control_plane.mode == "install" else 1)
    before = _before(program)
    for one in program.registered:
        if ".istio.io/" in one.type:
            assert releases <= before[one.urn], one.name


def test_registration_follows_the_order(program: Run) -> None:
    """A child waits for its component, and its component for what it depends on."""
    place = {one.urn: index for index, one in enumerate(program.registered)}
    for urn, earlier in _before(program).items():
        assert all(place[one] < place[urn] for one in earlier)


def test_what_a_controller_owns_is_left_to_it(stack: str, program: Run) -> None:
    for one in program.registered:
        annotations = (one.inputs.get("metadata") or {}).get("annotations") or {}
        given = annotations.get(IGNORE_CHANGES)
        assert one.ignore_changes == (tuple(given.split(",")) if given else ())


def test_outputs_are_the_public_hosts(stack: str, program: Run) -> None:
    settings = stack_file.load(stack, catalogue())
    assert program.exports == {"hosts": list(settings.public_hosts)}


def test_previewing_asks_no_provider(stack: str) -> None:
    """`_Answers.call` fails the run; so a preview works on an empty cluster and without one."""
    recorded.run(stack)


BAD_CONFIG = {
    "a key that no setting has": (
        {"voicemesh:colour": "red"},
        "Pulumi.dev.yaml: voicemesh:colour: this key does not exist (allowed: authentication,",
    ),
    "a value of another type": (
        {"voicemesh:gateway": "large"},
        "Pulumi.dev.yaml: voicemesh:gateway: 'large' is not a mapping of keys to values",
    ),
    "a number out of range": (
        {"voicemesh:telemetry": '{"sampling": {"ai": 150}}'},
        "Pulumi.dev.yaml: voicemesh:telemetry.sampling.ai: 150 is above 100",
    ),
    "JSON that is none": (
        {"voicemesh:zones": "[lab/a"},
        "Pulumi.dev.yaml: voicemesh:zones: '[lab/a' is not a list",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIG)
def test_bad_config_is_told_without_a_traceback(case: str) -> None:
    """The engine prints a RunError's text alone."""
    changed, told = BAD_CONFIG[case]
    with pytest.raises(pulumi.RunError) as refused:
        recorded.run("dev", {**recorded.engine_config("dev"), **changed})
    assert str(refused.value).startswith(told)
    assert refused.value.__suppress_context__


def test_a_secret_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value would end up in objects in clear."""
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", '["voicemesh:domain"]')
    with pytest.raises(pulumi.RunError, match=r"voicemesh:domain: the value is a secret"):
        recorded.run("dev")


def test_config_of_other_namespaces_is_left_alone(program: Run, stack: str) -> None:
    config = {**recorded.engine_config(stack), "kubernetes:context": "somewhere"}
    assert len(recorded.run(stack, config).registered) == len(program.registered)


def test_config_set_on_the_command_line_counts() -> None:
    config = {**recorded.engine_config("dev"), "voicemesh:domain": "other.example.com"}
    run = recorded.run("dev", config)
    hosts = ["api.other.example.com", "ws.other.example.com", "grpc.other.example.com"]
    assert run.exports == {"hosts": hosts}


def _own(one: Registered) -> bool:
    return one.type.startswith("voicemesh:")


def _is_object(one: Registered) -> bool:
    return (
        one.type.startswith("kubernetes:")
        and one.type not in {RELEASE, "kubernetes:core/v1:Secret"}
        and not one.type.endswith("Patch")
    )


def _before(program: Run) -> dict[str, set[str]]:
    """For each resource all that must be there first: dependencies, and those of its parents."""
    by_urn = {one.urn: one for one in program.registered}
    found: dict[str, set[str]] = {}

    def collect(urn: str) -> set[str]:
        if urn not in found:
            one = by_urn[urn]
            direct = {d for d in (*one.dependencies, one.parent) if d in by_urn}
            found[urn] = direct.union(*(collect(other) for other in direct))
        return found[urn]

    for one in program.registered:
        collect(one.urn)
    return found


def _texts(objects: list[Manifest]) -> list[str]:
    return sorted(map(_text, objects))


def _text(value: Any) -> str:
    """The value as JSON, with whole floats as the integers they were before the engine."""
    return json.dumps(_whole(value), sort_keys=True, indent=1)


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_whole(inner) for inner in value]
        case _:
            return value


def _keys(value: Any) -> set[str]:
    match value:
        case dict():
            return set(value).union(*(_keys(inner) for inner in value.values()))
        case list():
            return set[str]().union(*(_keys(inner) for inner in value))
        case _:
            return set()
