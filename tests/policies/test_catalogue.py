"""What must be true of every policy, whatever it says."""

from __future__ import annotations

import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import manifests
import policies.rules
from policies import docs
from policies.catalogue import POLICIES, SUBJECTS, policies_of
from policies.kinds import NOT_EXPORTED, RESOURCES
from policies.policy import Enforcement, Object, Policy, Severity
from policies.run import check
from policies.stack import Stack
from policies.workloads import PODS
from semantics.pods import POD_TEMPLATES

every_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.id)


def test_ids_are_unique() -> None:
    assert [i for i, n in Counter(p.id for p in POLICIES).items() if n > 1] == []


def test_titles_are_unique() -> None:
    assert [t for t, n in Counter(p.title for p in POLICIES).items() if n > 1] == []


def test_every_module_of_rules_is_registered() -> None:
    modules = {f"policies.rules.{m.name}" for m in pkgutil.iter_modules(policies.rules.__path__)}
    assert modules == {subject.__name__ for subject in SUBJECTS}


def test_every_subject_has_policies() -> None:
    assert [s.__name__ for s in SUBJECTS if not list(policies_of(s))] == []


@every_policy
def test_texts_are_there(policy: Policy) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", policy.id)
    assert policy.title
    assert not policy.title.endswith(".")
    assert policy.text.endswith(".")
    assert len(policy.text.split()) >= 8
    assert policy.remedy.endswith(".")
    assert policy.rule.__doc__


@every_policy
def test_the_link_is_a_page(policy: Policy) -> None:
    hosts = r"https://(istio\.io/latest|www\.envoyproxy\.io|kubernetes\.io)/docs/\S+"
    assert re.fullmatch(hosts, policy.url)


@every_policy
def test_codes_have_the_form_of_their_tools(policy: Policy) -> None:
    for code in policy.codes:
        assert re.fullmatch(r"(IST|KIA|TIS)\d{4}", code)


@every_policy
def test_only_advisory_policies_give_a_reason(policy: Policy) -> None:
    assert bool(policy.reason) == (policy.enforcement is Enforcement.ADVISORY)


@every_policy
def test_severity_fits_enforcement(policy: Policy) -> None:
    if policy.severity in (Severity.CRITICAL, Severity.HIGH):
        assert policy.enforcement is Enforcement.MANDATORY
    assert policy.enforcement is not Enforcement.DISABLED
    if policy.locked:
        assert policy.severity is Severity.CRITICAL
        assert policy.settings == {}


@every_policy
def test_scope_and_kinds_agree(policy: Policy) -> None:
    assert bool(policy.kinds) == (policy.scope == "object")


@every_policy
def test_defaults_are_allowed_values(policy: Policy) -> None:
    for setting in policy.settings.values():
        assert setting.problem(setting.default) is None
        assert setting.description.endswith(".")


def test_mutual_tls_cannot_be_configured_away() -> None:
    locked = {p.id for p in POLICIES if p.locked}
    assert {"mtls-strict", "mtls-strict-root", "mtls-auto", "client-tls-on"} <= locked


def test_the_documented_table_is_the_catalogue() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "policies.md"
    assert docs.with_table(page.read_text()) == page.read_text(), (
        "docs/policies.md is stale: run python -m policies.docs"
    )


def test_every_kind_that_policies_read_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set(POD_TEMPLATES)
    asked = Stack.of

    def noting(stack: Stack, *kinds: str) -> Iterator[Object]:
        read.update(kinds)
        return asked(stack, *kinds)

    monkeypatch.setattr(Stack, "of", noting)
    files = Path(__file__).parent / "testdata"
    for file in (files / "sound.yaml", *(files / "weak").iterdir()):
        check(manifests.read([file]))
    assert read - {PODS} == set(RESOURCES) | set(NOT_EXPORTED)
    assert not set(RESOURCES) & set(NOT_EXPORTED)
    assert "Secret" in NOT_EXPORTED


def test_the_export_names_every_kind_with_its_group() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
    export = page.partition("for kind in")[2].partition("do kubectl")[0].replace("\\", " ").split()
    assert export == list(RESOURCES.values())
    assert len(set(export)) == len(export)
