"""A service whose instance runs without a proxy: nobody speaks to it in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from components.gateway_workload import GATEWAY
from lab.contracts.access import request
from lab.contracts.arrangements import patched, settled, until_known
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Recorded, Watch
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts, readable
from lab.data_plane import DataPlane
from lab.exchange import Reply
from model.access import Catalogue
from model.service import Route, Service
from semantics.pods import INJECT

_NOT_SPOKEN_TO = Expect((503,))
_FAILURE = "TLS_error"
"""How Envoy begins what it says of a handshake that failed."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The contracts `log.upstream-failure` and `mtls.lost-proxy`."""
    one, route = _without(facts.catalogue)
    caller = facts.catalogue.callers(one)[0]
    calls = (
        Call(CLIENT, facts.api(f"{route.path}/1", *facts.bearer()), _NOT_SPOKEN_TO),
        Call(through(caller), request(facts, one, "service"), _NOT_SPOKEN_TO),
    )
    yield Contract(
        "log.upstream-failure",
        "`upstream_failure` says why the TLS handshake with the other side failed.",
        "telemetry.md",
        calls,
        watch=failure_logged(),
        arrangement=without_proxy,
    )
    yield Contract(
        "mtls.lost-proxy",
        "An instance without a proxy gets no call in plain text: its callers are answered 503.",
        "security.md",
        calls,
        arrangement=without_proxy,
    )


def failure_logged() -> Watch:
    """Each call left a line that says that TLS failed."""

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, lines in zip(replies, recorded.lines, strict=True):
            told = [line for line in lines if line["log"] == "access"]
            if not told:
                return f"what was answered with {reply} is in no log"
            for line in told:
                why = line.get("upstream_failure")
                if not str(why).startswith(_FAILURE):
                    return f"{line['proxy']} logged upstream_failure {why}, flags {line['flags']}"
        return None

    return watch


def _without(catalogue: Catalogue) -> tuple[Service, Route]:
    """A service with one Deployment that others and, with a token alone, clients read from."""
    for one, route in readable(catalogue):
        if not one.subsets and catalogue.callers(one):
            return one, route
    raise LookupError("no service without subsets is read from by clients and by others")


@contextmanager
def without_proxy(data_plane: DataPlane) -> Iterator[None]:
    """A service's pods made anew without injection, and known to those who call it."""
    namespace = data_plane.settings.namespaces.apps
    one, _ = _without(data_plane.catalogue)
    (deployment,) = data_plane.lab.kubectl.get(
        "deployments", f"--namespace={namespace}", f"--selector=app={one.name}"
    )["items"]
    name = deployment["metadata"]["name"]
    uninjected = {"spec": {"template": {"metadata": {"labels": {INJECT: "false"}}}}}

    def known() -> None:
        settled(data_plane, namespace, name)
        for caller in (GATEWAY, data_plane.catalogue.callers(one)[0]):
            until_known(data_plane, caller, one.name)

    try:
        with patched(data_plane, "deployment", namespace, name, uninjected):
            known()
            yield
    finally:
        known()
