"""The lab's directory, waiting with an end, identity of parts, forwarding."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from lab.control_plane import istio, kubeconfig
from lab.control_plane.certificates import IDENTITIES, Certificates
from lab.directory import LabDirectory
from lab.errors import LabError
from lab.lab import Lab
from lab.node.forwarder import serve
from lab.node.parts import Part
from lab.waiting import NotYet, until


def test_too_long_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="too long for a lab"):
        LabDirectory.at(tmp_path / ("x" * 100))


def test_lock_is_released(tmp_path: Path) -> None:
    directory = LabDirectory.at(tmp_path)
    with directory.locked(), pytest.raises(LabError, match="another command"), directory.locked():
        pass
    with directory.locked():
        pass


def test_discarding_keeps_logs(tmp_path: Path) -> None:
    directory = LabDirectory.at(tmp_path)
    directory.create()
    directory.data.mkdir()
    directory.log("etcd").write_text("x")
    directory.discard_data()
    assert not directory.data.exists()
    assert directory.log("etcd").exists()


def test_lab_that_was_never_started(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "none")
    assert lab.stop() == 0
    assert not lab.running()
    assert not lab.directory.path.exists()
    with pytest.raises(LabError, match="start it with: voicemesh lab start"):
        assert lab.kubeconfig


def test_until_returns_the_first_result() -> None:
    states = iter([1, 2, 7])

    def check() -> int:
        state = next(states)
        if state < 3:
            raise NotYet(f"still at {state}")
        return state

    assert until("x", check, within=5, every=0.001) == 7


def test_until_reports_the_last_state_and_the_log() -> None:
    def check() -> None:
        raise NotYet("503 warming up")

    with pytest.raises(LabError) as raised:
        until("istiod ready", check, within=0.01, every=0.001, detail=lambda: "end of log")
    message = str(raised.value)
    assert message == "istiod ready: not so after 0.01 s; last seen: 503 warming up\nend of log"


def test_until_ends_at_once_on_other_errors() -> None:
    def check() -> None:
        raise LabError("it died")

    with pytest.raises(LabError, match=r"^it died$"):
        until("x", check, within=60)


def test_a_part_is_another_when_command_environment_or_inputs_are() -> None:
    part = Part("x", ("a", "b"), {"K": "1"}, "certificates")
    same = Part("x", ("a", "b"), {"K": "1"}, "certificates")
    others = [
        Part("x", ("a", "c"), {"K": "1"}, "certificates"),
        Part("x", ("a", "b"), {"K": "2"}, "certificates"),
        Part("x", ("a", "b"), {"K": "1"}, "others"),
    ]
    assert part.digest == same.digest
    assert len({part.digest, *(other.digest for other in others)}) == 4


def test_certificates_are_made_once_and_again_when_one_is_missing(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.ensure()
    first = certificates.digest
    certificates.ensure()
    assert certificates.digest == first
    certificates.certificate("istiod").unlink()
    certificates.ensure()
    assert certificates.digest != first


def test_certificates_say_who_is_who(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.ensure()
    ca = x509.load_pem_x509_certificate(certificates.certificate("ca").read_bytes())
    for identity in IDENTITIES:
        client = x509.load_pem_x509_certificate(
            certificates.certificate(identity.file).read_bytes()
        )
        client.verify_directly_issued_by(ca)
        assert _values(client, NameOID.COMMON_NAME) == [identity.user]
        assert _values(client, NameOID.ORGANIZATION_NAME) == list(identity.groups)
        assert stat.S_IMODE(certificates.key(identity.file).stat().st_mode) == 0o600
    server = x509.load_pem_x509_certificate(certificates.certificate("api-server").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in [str(name) for name in names.get_values_for_type(x509.IPAddress)]


def _values(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(one.value) for one in certificate.subject.get_attributes_for_oid(oid)]


def test_kubeconfig_is_complete_and_private(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.ensure()
    path = tmp_path / "kubeconfigs" / "host.yaml"
    for _ in range(2):
        kubeconfig.write(path, kubeconfig.text(certificates, "admin", "https://127.0.0.1:1"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert config["contexts"][0]["name"] == config["current-context"]


def test_istiod_service_gets_an_endpoint_instead_of_its_pods() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": "istio-system"},
        "spec": {
            "selector": {"app": "istiod"},
            "ports": [{"name": "https-webhook", "port": 443, "targetPort": 15017}],
        },
    }
    kept = istio.objects([{"kind": "Deployment"}, service, {"kind": "HorizontalPodAutoscaler"}])
    assert [one["kind"] for one in kept] == ["Service", "EndpointSlice"]
    assert "selector" not in kept[0]["spec"]
    assert kept[1]["ports"] == [{"name": "https-webhook", "port": 15017, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("webhook", "state"),
    [
        ({"clientConfig": {}, "failurePolicy": "Fail"}, "has not yet written its CA"),
        ({"clientConfig": {"caBundle": "x"}, "failurePolicy": "Ignore"}, "not yet Fail"),
    ],
)
def test_incomplete_webhooks(webhook: dict[str, object], state: str) -> None:
    with pytest.raises(NotYet, match=state):
        istio.complete({"metadata": {"name": "c"}, "webhooks": [{"name": "w", **webhook}]})


def test_forwarder_relays_both_ways_and_half_closes(tmp_path: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def scenario() -> bytes:
        target = await asyncio.start_server(shout, "127.0.0.1", 0)
        port = target.sockets[0].getsockname()[1]
        path = tmp_path / "s"
        forwarding = asyncio.create_task(serve([f"unix:{path}=127.0.0.1:{port}"], {}))
        while not path.exists():
            await asyncio.sleep(0.005)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        forwarding.cancel()
        target.close()
        return answer

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == b"HELLO"


def test_forwarder_drops_clients_of_a_dead_target(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        path = tmp_path / "s"
        forwarding = asyncio.create_task(serve([f"unix:{path}=127.0.0.1:1"], {}))
        while not path.exists():
            await asyncio.sleep(0.005)
        reader, _ = await asyncio.open_unix_connection(path)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            forwarding.cancel()

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == b""
