"""What each service's proxy is told of its own application and of what it may call."""

from __future__ import annotations

import pytest

import render
from model.catalogue import catalogue
from model.service import Port, Service
from model.values import seconds


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_proxies_close_idle_connections_before_applications_do(stack: str) -> None:
    sidecars = {
        one["metadata"]["name"]: one["spec"]
        for one in render.expanded(render.declared(stack))
        if one["kind"] == "Sidecar"
    }
    for service in catalogue().services:
        pool = sidecars[service.name]["inboundConnectionPool"]
        # Nothing else: a limit here would hold for all callers together.
        assert list(pool) == ["http"]
        assert list(pool["http"]) == ["idleTimeout"]
        assert seconds(pool["http"]["idleTimeout"]) * 2 == seconds(service.keep_alive)


@pytest.mark.parametrize(("keep_alive", "allowed"), [("1s", True), ("75s", True), ("999ms", False)])
def test_an_application_keeps_connections_for_a_second_at_least(
    keep_alive: str, *, allowed: bool
) -> None:
    def made() -> Service:
        return Service(
            name="one", ports=(Port(name="http", number=80),), timeout="5s", keep_alive=keep_alive
        )

    if allowed:
        assert made().keep_alive == keep_alive
    else:
        with pytest.raises(ValueError, match="keep_alive 999ms is shorter than 1s"):
            made()
