"""Judges of the edge and of routing: TLS versions, compressed answers, who was reached, when."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lab import client
from lab.contracts import compression, routing
from lab.contracts import tls as tls_contracts
from lab.contracts.contract import Recorded
from lab.contracts.facts import Facts
from lab.contracts.traffic import not_before
from lab.exchange import Reply
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue
from model.settings import Tls

_ALERT = "ConnectError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version"


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        ((Reply(error=_ALERT), Reply(status=200, tls_version="TLSv1.3")), ""),
        ((Reply(error="Timeout: no answer"), Reply(tls_version="TLSv1.3")), "not refused with an"),
        ((Reply(error=_ALERT), Reply(status=200, tls_version="TLSv1.2")), "TLSv1.2 was spoken"),
        ((Reply(error=_ALERT), Reply(error=_ALERT)), "none was spoken"),
    ],
)
def test_versions_are_spoken_or_refused(replies: Sequence[Reply], wrong: str) -> None:
    said = tls_contracts.spoken([("1.1", False), ("1.3", True)])(replies)
    assert (said is None) if not wrong else (said is not None and wrong in said)


def test_something_must_be_served() -> None:
    assert tls_contracts.spoken([("1.1", False)])([Reply(error=_ALERT)]) == "no version is served"


@pytest.mark.parametrize(
    ("least", "most", "served"),
    [
        ("TLSV1_2", "TLSV1_3", {"1.2", "1.3"}),
        ("TLSV1_3", "TLSV1_3", {"1.3"}),
        ("TLSV1_2", "TLSV1_2", {"1.2"}),
    ],
)
def test_versions_are_those_of_the_stack(
    least: str, most: str, served: set[str], tmp_path: Path
) -> None:
    services = catalogue()
    settings = stack_file.load("dev", services)
    tls = Tls.model_validate({"credentialName": "a", "minVersion": least, "maxVersion": most})
    issuers = Issuers(tmp_path)
    issuers.ensure(settings.authentication.issuers)
    changed = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"tls": tls})}
    )
    facts = Facts("dev", changed, services, issuers, "ca.crt")
    found = next(one for one in tls_contracts.contracts(facts) if one.id == "tls.versions")
    asked = {
        (call.request.authority, call.request.tls.maximum, bool(call.expect.status[0]))
        for call in found.calls
        if call.request.tls
    }
    assert asked == {
        (host, version, version in served)
        for host in settings.public_hosts
        for version in ("1.0", "1.1", "1.2", "1.3")
    }


def test_nobody_waits_for_a_connection_in_vain() -> None:
    closed = Reply(error="ReadError: closed")
    assert tls_contracts.ended_by_server([Reply(status=200), closed]) is None
    assert tls_contracts.ended_by_server([Reply(error="Timeout: no answer within 10 s")])


def _packed(body: str, size: int = 100) -> Reply:
    return Reply(status=200, headers=(("content-encoding", "gzip"),), body=body, size=size)


def test_what_was_compressed_is_the_whole_answer() -> None:
    whole = f"Hostname=a-1\nRequestHeader=X-Filler:{'a' * 4096}\n"
    assert compression.unpacked([_packed(whole), Reply(status=200)]) is None
    assert "not the service's answer" in (compression.unpacked([_packed("Hostname=a-1\n")]) or "")
    assert "by being compressed" in (compression.unpacked([_packed(whole, 5000)]) or "")
    assert compression.unpacked([Reply(status=200)]) == "no answer was compressed"


def test_a_client_unpacks_gzip_and_says_where_it_can_not() -> None:
    assert client._unzipped(gzip.compress(b"told")) == (b"told", "")
    assert client._unzipped(b"") == (b"", "")
    for broken in (b"told", gzip.compress(b"told")[:-3]):
        body, why = client._unzipped(broken)
        assert body == b""
        assert why


_OUT = {"proxy": "gateway-1", "upstream_cluster": "outbound|80|v1|a.b"}
_IN = {"proxy": "a-v1-1", "upstream_cluster": "inbound|80||"}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ((_OUT, _IN), ""),
        ((_OUT,), "in the logs of []"),
        ((_OUT, {**_IN, "proxy": "b-v1-1"}), "in the logs of ['b-v1-1']"),
        ((_OUT, _IN, _IN), "in the logs of"),
        (({**_OUT, "upstream_cluster": "outbound|80||a.b"}, _IN), "went to the subsets ['']"),
        ((_IN,), "went to the subsets []"),
    ],
)
def test_a_route_leads_to_one_instance_of_a_subset(
    lines: Sequence[dict[str, str]], wrong: str
) -> None:
    said = routing.reached("a", ["v1", "canary"])((), Recorded([lines], ()))
    assert (said is None) if not wrong else (said is not None and wrong in said)


def test_a_service_is_asked_at_its_port() -> None:
    right = Reply(status=200, body="ServicePort=80\n")
    assert routing.on_port("80")([right, Reply(status=200)]) is None
    assert routing.on_port("80")([replace(right, body="ServicePort=81\n")])
    assert routing.on_port("80")([Reply(status=200)])


def test_a_timeout_is_waited_for() -> None:
    late, early = Reply(status=504, seconds=10.1), Reply(status=504, seconds=3.0)
    assert not_before([10.0])([late]) is None
    assert not_before([10.0, 10.0])([late, early]) == "answered before the timeout: 3.0 s of 10 s"
    assert "no service" in (not_before([])([]) or "")
