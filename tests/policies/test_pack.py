"""The pack reports what `voicemesh check` reports, over the engine's own protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi.runtime import proto

from manifests import read
from policies.catalogue import BY_ID, POLICIES
from policies.run import check
from tests.policies.engine import PACK, UNKNOWN_TEXT, Engine, running_pack

TESTDATA = Path(__file__).parent / "testdata"
WEAK = sorted((TESTDATA / "weak").glob("*.yaml"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_pack(tmp_path_factory.mktemp("elsewhere")) as pack:
        yield pack


def _reported(engine: Engine, objects: list[Any]) -> set[tuple[str, str]]:
    """(policy, object) of every diagnostic."""
    found = set()
    for each in engine.diagnostics(objects):
        text = each.message.removeprefix(each.description).strip()
        found.add((each.policyName, " ".join(text.split()[:2]).rstrip(":")))
    return found


@pytest.mark.parametrize("file", WEAK, ids=lambda f: f.stem)
def test_the_pack_reports_what_check_reports(engine: Engine, file: Path) -> None:
    objects = list(read([file]))
    assert _reported(engine, objects) == {(v.policy_id, v.object) for v in check(objects)}


def test_the_pack_reports_nothing_of_a_sound_mesh(engine: Engine) -> None:
    assert _reported(engine, list(read([TESTDATA / "sound.yaml"]))) == set()


def test_the_engine_is_told_everything_about_each_policy(engine: Engine) -> None:
    told = {p.name: p for p in engine.info().policies}
    assert set(told) == set(BY_ID)
    for policy in POLICIES:
        info = told[policy.id]
        assert info.description == policy.text
        assert info.displayName == policy.title
        assert info.remediation_steps == policy.remedy
        assert info.url == policy.url
        assert list(info.tags) == ["istio", *policy.codes]
        assert set(info.configSchema.properties) == set(policy.settings)
        level = proto.EnforcementLevel.Name(info.enforcementLevel).lower()
        assert level == policy.enforcement
        severity = proto.PolicySeverity.Name(info.severity).removeprefix("POLICY_SEVERITY_")
        assert severity.lower() == policy.severity


def test_violations_carry_the_resource(engine: Engine) -> None:
    found = engine.diagnostics(list(read([TESTDATA / "weak" / "allow.yaml"])))
    undone = [d for d in found if d.policyName == "allow-not-undone"]
    assert {d.urn.rpartition("::")[2] for d in undone} == {
        "shop/broad",
        "shop/broad-by-account",
        "shop/broad-in-disguise",
    }


class TestConfigured:
    """A pack of its own for each test: configuration stays until the process ends."""

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Iterator[Engine]:
        with running_pack(tmp_path) as pack:
            yield pack

    def test_settings_arrive(self, fresh: Engine) -> None:
        objects = list(read([TESTDATA / "sound.yaml"]))
        fresh.configure({"route-timeout": {"maximum": 5}}, {})
        assert _reported(fresh, objects) == {("route-timeout", "VirtualService shop/orders")}

    def test_a_policy_can_be_disabled(self, fresh: Engine) -> None:
        objects = list(read([TESTDATA / "weak" / "bounds.yaml"]))
        fresh.configure({}, {"no-faults-left": proto.DISABLED})
        assert "no-faults-left" not in {policy for policy, _ in _reported(fresh, objects)}

    def test_mutual_tls_cannot_be_disabled(self, fresh: Engine) -> None:
        objects = list(read([TESTDATA / "weak" / "mtls.yaml"]))
        locked = [p.id for p in POLICIES if p.locked]
        fresh.configure({}, dict.fromkeys(locked, proto.DISABLED))
        found = fresh.diagnostics(objects)
        still = {d.policyName for d in found if d.enforcementLevel == proto.MANDATORY}
        assert {"mtls-strict", "mtls-strict-root", "mtls-auto"} <= still


def test_a_policy_that_cannot_run_fails(engine: Engine) -> None:
    objects = list(read([TESTDATA / "sound.yaml"]))
    for item in objects:
        if item["kind"] == "PeerAuthentication":
            item["spec"]["mtls"]["mode"] = UNKNOWN_TEXT
    found = {d.policyName: d for d in engine.diagnostics(objects)}
    assert {"mtls-strict", "mtls-strict-root"} <= set(found)
    for each in found.values():
        assert each.enforcementLevel == proto.MANDATORY
        assert "could not run: the value at spec.mtls.mode is not known" in each.message
    assert "client-tls-on" not in found


def test_an_unknown_password_disturbs_nobody(engine: Engine) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "redis", "namespace": "data"},
        "stringData": {"password": UNKNOWN_TEXT},
    }
    assert _reported(engine, [*read([TESTDATA / "sound.yaml"]), secret]) == set()


def test_the_project_file_names_what_is_there() -> None:
    project = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())
    assert project["runtime"]["name"] == "python"
    assert project["runtime"]["options"]["virtualenv"]
