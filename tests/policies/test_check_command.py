"""`voicemesh check`: what it prints and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = ["--stack", "prod", "--config", "{file}"]
ROOT = Path(__file__).resolve().parents[2]
TESTDATA = Path(__file__).parent / "testdata"


def voicemesh(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "check", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_stack_exits_with_0() -> None:
    run = voicemesh("--stack", "prod", "--strict")
    assert run.returncode == 0, run.stdout
    assert run.stdout.endswith("objects: 0 violations, 0 advisory\n")


def test_a_violation_exits_with_1_and_names_everything() -> None:
    run = voicemesh("--manifests", TESTDATA / "weak" / "mtls.yaml")
    assert run.returncode == 1
    assert (
        "critical mandatory mtls-strict PeerAuthentication shop/port"
        " spec.portLevelMtls.8080.mode: mode is DISABLE, plain text is accepted" in run.stdout
    )


def test_an_advisory_violation_fails_only_when_strict(tmp_path: Path) -> None:
    text = (TESTDATA / "sound.yaml").read_text().replace('exportTo: ["."]', 'exportTo: ["*"]')
    file = tmp_path / "mesh.yaml"
    file.write_text(text)
    assert voicemesh("--manifests", file).returncode == 0
    strict = voicemesh("--manifests", file, "--strict")
    assert strict.returncode == 1
    assert "low advisory egress-private ServiceEntry shop/payments" in strict.stdout


def test_json_is_for_machines() -> None:
    run = voicemesh("--json", "--manifests", TESTDATA / "weak" / "destinations.yaml")
    report = json.loads(run.stdout)
    assert run.returncode == 1
    assert report["failed"] is True
    assert report["objects"] == 5
    assert report["skipped"] == []
    assert {
        "policy_id",
        "severity",
        "enforcement",
        "object",
        "path",
        "message",
        "remedy",
        "url",
    } == set(report["violations"][0])


def test_directories_lists_and_several_paths_are_read(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    item = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"mtls": {"mode": "DISABLE"}},
    }
    (below / "list.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [item, None][:1]})
    )
    (below / "notes.txt").write_text("not: an object")
    run = voicemesh("--manifests", tmp_path, TESTDATA / "weak" / "bounds.yaml")
    assert "mtls-strict PeerAuthentication shop/p" in run.stdout
    assert "no-faults-left VirtualService shop/boundless" in run.stdout


def test_configuration_is_a_file(tmp_path: Path) -> None:
    config = tmp_path / "policies.json"
    config.write_text('{"route-timeout": {"maximum": 5}}')
    run = voicemesh("--manifests", TESTDATA / "sound.yaml", "--config", config)
    assert run.returncode == 1
    assert "route-timeout VirtualService shop/orders spec.http[1].timeout" in run.stdout


def test_what_is_no_object_in_a_directory_is_named_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("replicas: 2\n")
    (tmp_path / "mesh.yaml").write_text((TESTDATA / "sound.yaml").read_text())
    run = voicemesh("--json", "--manifests", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    reason = "it holds no Kubernetes object"
    assert run.stderr == f"skipped {tmp_path / 'values.yaml'}: {reason}\n"
    skipped = [{"file": str(tmp_path / "values.yaml"), "reason": reason}]
    assert json.loads(run.stdout)["skipped"] == skipped


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("", [], "give either --stack NAME or --manifests PATH"),
        ("", ["--stack", "prod", "--manifests", "{file}"], "give either"),
        ("", ["--manifests", "{file}"], "no objects in"),
        ("", ["--manifests", "{file}.gone"], "no such file"),
        ("a: [", ["--manifests", "{file}"], "is not YAML"),
        ("- 1", ["--manifests", "{file}"], "document 1 is no Kubernetes object"),
        ("kind: A\napiVersion: v1", ["--manifests", "{file}"], "A has no metadata.name"),
        ("mtls-strict: disabled", CONFIG, "configured away"),
        ("[]", CONFIG, "must be a mapping"),
        ('{"a": ', CONFIG, "neither JSON nor YAML"),
        ("[" * 5000, CONFIG, "file.yaml"),
        ("", ["--stack", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_exits_with_2(
    tmp_path: Path, content: str, arguments: list[str], message: str
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(content)
    run = voicemesh(*(a.replace("{file}", str(file)) for a in arguments))
    assert run.returncode == 2, run.stdout + run.stderr
    assert message in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr
