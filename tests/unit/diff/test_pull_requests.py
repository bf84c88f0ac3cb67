"""Realistic pull requests on the prod stack, each with the comment that it gets.

After a change of the stack or of the comment's form: `UPDATE_GOLDEN=1 pytest tests/unit/diff`,
and read what became of the files in `golden/` before committing them.
"""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mesh
import render
from components.objects import HelmRelease
from diff.changes import Diff, Effect
from diff.compare import diff_objects
from diff.markdown import LIMIT, markdown
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue
from model.service import Port, Route, Service
from model.settings import Settings

GOLDEN = Path(__file__).with_name("golden")
STACK = "prod"
Objects = list[dict[str, Any]]


@functools.cache
def _release(declared: str) -> Objects:
    """The charts render slowly and none of the changes here touches them: each once."""
    return list(render.expanded([_RELEASES[declared]]))


_RELEASES: dict[str, Any] = {}


def _objects(changed: Catalogue, settings: Settings) -> Objects:
    found: Objects = []
    for part in mesh.parts(STACK, settings, changed):
        for item in part.objects():
            if isinstance(item, HelmRelease):
                _RELEASES[repr(item)] = item
                found += _release(repr(item))
            elif isinstance(item, dict):
                found.append(item)
    # As if they had been written to files and read again.
    plain: Objects = json.loads(json.dumps(found))
    return plain


def _settings(changed: Catalogue) -> Settings:
    return stack_file.load(STACK, changed)


@functools.cache
def _main() -> Objects:
    return _objects(catalogue(), _settings(catalogue()))


def _with(name: str, **changes: Any) -> Objects:
    """The stack with one service of the catalogue declared differently."""
    services = tuple(
        Service.model_validate({**dict(service), **changes}) if service.name == name else service
        for service in catalogue().services
    )
    changed = Catalogue(services=services)
    return _objects(changed, _settings(changed))


def new_service() -> Objects:
    """A translation service that clients and the orchestrator call."""
    template = catalogue().service("multimodal-engine")
    service = Service.model_validate(
        {
            **dict(template),
            "name": "translation-service",
            "ports": (Port(name="http", number=8014),),
            "routes": (Route(path="/api/v1/translation"),),
            "callers": ("ai-orchestrator",),
            "ai": False,
        }
    )
    changed = Catalogue(services=(*catalogue().services, service))
    return _objects(changed, _settings(changed))


def new_caller() -> Objects:
    """The analytics service may read from retrieval."""
    callers = catalogue().service("retrieval-service").callers
    return _with("retrieval-service", callers=(*callers, "analytics-service"))


def timeout() -> Objects:
    """Retrieval-augmented answers may take longer."""
    return _with("rag-engine", timeout="90s")


def canary_step() -> Objects:
    """Twice as much traffic for the new identity service."""
    settings = _settings(catalogue())
    traffic = dict(settings.traffic)
    step = traffic["identity-service"].model_copy(update={"weights": {"v1": 90, "canary": 10}})
    traffic["identity-service"] = step
    return _objects(catalogue(), settings.model_copy(update={"traffic": traffic}))


def subtle_weakening() -> Objects:
    """A tidied route list: the restriction of DELETE on users is gone with it."""
    routes = catalogue().service("identity-service").routes
    tidied = tuple(
        Route.model_validate({**dict(route), "restricted": ()})
        if route.path == "/api/v1/users"
        else route
        for route in routes
    )
    return _with("identity-service", routes=tidied)


def broad_allow() -> Objects:
    """Someone's debugging aid beside the stack: an ALLOW that names whom it is not for."""
    debugging = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "debug", "namespace": "voiceassistant-prod"},
        "spec": {
            "rules": [
                {"from": [{"source": {"notPrincipals": ["cluster.local/ns/other/sa/other"]}}]}
            ]
        },
    }
    return [*copy.deepcopy(_main()), debugging]


CHANGES: list[Callable[[], Objects]] = [
    new_service,
    new_caller,
    timeout,
    canary_step,
    subtle_weakening,
    broad_allow,
]


@functools.cache
def _diff(change: Callable[[], Objects]) -> Diff:
    return diff_objects(_main(), change())


def _texts(diff: Diff, section: str) -> str:
    found = next(s for s in diff.sections if s.key == section)
    return "\n".join(f"{c.subject} | {c.field} | {c.before} | {c.after}" for c in found.changes)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_comment_is_the_expected_one(change: Callable[[], Objects]) -> None:
    comment = markdown(_diff(change), STACK, artifact="the artifact changes-prod")
    assert len(comment.encode()) < LIMIT
    golden = GOLDEN / f"{change.__name__}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(comment)
    assert comment == golden.read_text()


def test_no_change_is_no_difference() -> None:
    assert diff_objects(_main(), list(reversed(_main()))).empty


def test_a_new_service_is_told_with_its_callers_and_its_public_route() -> None:
    access = _texts(_diff(new_service), "access")
    assert "ai-orchestrator → voiceassistant-prod/translation-service | can newly talk" in access
    assert "/api/v1/translation" in access
    assert "| from outside the mesh | no route | a token (any tenant_id)" in access
    assert _diff(new_service).weaker


def test_a_new_caller_is_told_as_one_pair() -> None:
    diff = _diff(new_caller)
    access = _texts(diff, "access")
    assert access.startswith(
        "analytics-service → voiceassistant-prod/retrieval-service | can newly talk"
    )
    assert "\n" not in access
    assert diff.weaker == 1


@pytest.mark.parametrize("change", [timeout, canary_step], ids=lambda change: change.__name__)
def test_what_opens_nothing_says_so(change: Callable[[], Objects]) -> None:
    diff = _diff(change)
    assert not diff.weaker
    assert not _texts(diff, "access")
    assert not _texts(diff, "tls")


def test_a_timeout_is_told_from_and_to() -> None:
    assert "| timeout | 60s | 90s" in _texts(_diff(timeout), "routes")


def test_a_canary_step_is_told_from_and_to() -> None:
    assert "| weights | v1 95, canary 5 | v1 90, canary 10" in _texts(_diff(canary_step), "routes")


def test_a_lost_restriction_is_told_as_what_clients_now_need() -> None:
    diff = _diff(subtle_weakening)
    access = next(s for s in diff.sections if s.key == "access")
    told = [c for c in access.changes if "/api/v1/users" in c.subject and "DELETE" in c.subject]
    assert told
    assert {c.effect for c in told} == {Effect.WEAKER}
    from_outside = next(c for c in told if c.field == "from outside the mesh")
    assert "role admin, super-admin" in str(from_outside.before)
    assert "only from 198.51.100.0/24" in str(from_outside.before)
    assert "role" not in str(from_outside.after)
    assert "only from" not in str(from_outside.after)


def test_a_broad_allow_is_told_as_everybody_talking_to_everything() -> None:
    access = _texts(_diff(broad_allow), "access")
    for service in catalogue().names:
        assert service in access
    assert "any identity of the mesh but other/other → voiceassistant-prod/{" in access
