"""Rendering: layout, order, determinism, and what may never stand in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import manifests
import mesh
import render
from apply.kubectl import executable
from components.objects import GeneratedSecret, HelmRelease, Manifest
from model import stack_file
from model.catalogue import catalogue
from model.invalid import InvalidInput
from model.stack_file import ROOT, stacks

PROGRAM = Path(sys.executable).parent / "voicemesh"
STACKS = stacks()


@pytest.fixture(scope="module", params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def objects(stack: str) -> list[Manifest]:
    return render.objects(stack)


def test_there_are_three_stacks() -> None:
    assert STACKS == ("dev", "prod", "staging")


def test_one_file_for_each_object_at_a_place_that_follows_from_it(
    objects: list[Manifest], tmp_path: Path
) -> None:
    written = manifests.write(objects, tmp_path)
    assert len(written) == len(set(written)) == len(objects)
    on_disk = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {*written, tmp_path / manifests.INDEX} == set(on_disk)
    for path in written:
        one = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind, *namespace, name = path.relative_to(tmp_path).parts
        assert kind == one["kind"].lower()
        assert namespace == (
            [one["metadata"]["namespace"]] if "namespace" in one["metadata"] else []
        )
        assert name == f"{one['metadata']['name']}.yaml"


def test_files_hold_exactly_the_objects(objects: list[Manifest], tmp_path: Path) -> None:
    manifests.write(objects, tmp_path)
    read = {manifests.place(one): one for one in manifests.read([tmp_path])}
    assert read == {manifests.place(one): one for one in objects}


def test_text_reads_as_people_write_it(objects: list[Manifest]) -> None:
    for one in objects:
        text = manifests.dump(one)
        keys = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
        assert keys[:3] == ["apiVersion", "kind", "metadata"]
        assert not any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)
        )
        assert "!!" not in text


def test_kubectl_reads_texts_as_texts() -> None:
    """It reads YAML by other rules than PyYAML writes it."""
    texts = ["y", "N", "no", "on", "true", "~", "null", "1e3", "-1.5E+3", ".5e1", "0o17", "0x1f"]
    texts += ["017", "1_000", "12", "1.0", ".inf", "2024-01-01", "10:20", "=", "<<", "", " a", "#"]
    texts += ["- a", "a: b", "@a", "`a", "%a", "*a", "&a", "!a", "a\nb", "\tb", "\u00e9"]
    data = {f"k{index}": text for index, text in enumerate(texts)}
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": data}
    read = subprocess.run(
        [executable(), "annotate", "--local", "--filename=-", "a=b", "--output=json"],
        input=manifests.dump(one),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(read.stdout)["data"] == data


def test_rendering_again_gives_the_same_bytes(stack: str, tmp_path: Path) -> None:
    """Two processes, each with another hash seed."""
    trees = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        subprocess.run(
            [PROGRAM, "render", "--stack", stack, "--out", str(out), "--json"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        trees.append({path.relative_to(out): path.read_bytes() for path in _files(out)})
    assert trees[0] == trees[1]


def test_nothing_secret_is_rendered(stack: str, objects: list[Manifest]) -> None:
    generated = [one for one in render.declared(stack) if isinstance(one, GeneratedSecret)]
    assert generated, "the rate limits' Redis has a password"
    assert not [one for one in objects if one["kind"] == "Secret"]
    used = {
        (one["metadata"]["namespace"], reference)
        for one in objects
        if one["kind"] == "Deployment"
        for reference in _secret_names(one)
    }
    made = {(n, one.name) for one in generated for n in (one.namespace, *one.also_in)}
    assert made <= used, "a generated Secret that no pod reads"


def test_every_object_says_whose_it_is(stack: str) -> None:
    for one in render.declared(stack):
        if isinstance(one, HelmRelease):
            continue
        labels = one.labels if isinstance(one, GeneratedSecret) else one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == stack
        assert labels["app.kubernetes.io/managed-by"] == "voicemesh"
        assert labels["app.kubernetes.io/component"]


def test_what_left_the_stack_leaves_the_directory(objects: list[Manifest], tmp_path: Path) -> None:
    manifests.write(objects, tmp_path)
    kept = [one for one in objects if one["metadata"].get("namespace") != "istio-system"]
    manifests.write(kept, tmp_path)
    assert {p.relative_to(tmp_path) for p in _files(tmp_path)} == {
        *map(manifests.place, kept),
        Path(manifests.INDEX),
    }
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_only_what_render_wrote_is_removed(tmp_path: Path) -> None:
    one = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
    other = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}
    manifests.write([one, other], tmp_path / "out")
    own = tmp_path / "out" / "namespace" / "kustomization.yaml"
    own.write_text("mine\n")
    outside = tmp_path / "outside.yaml"
    outside.write_text("mine\n")
    index = tmp_path / "out" / manifests.INDEX
    index.write_text(f"{index.read_text()}../outside.yaml\n{outside}\n")
    manifests.write([one], tmp_path / "out")
    assert own.read_text() == outside.read_text() == "mine\n"
    assert not (tmp_path / "out/namespace/b.yaml").exists()


def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text("mine\n")
    with pytest.raises(InvalidInput, match="holds files that are not from an earlier render"):
        manifests.write([], tmp_path)
    assert (tmp_path / "deployment.yaml").read_text() == "mine\n"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_is_no_directory(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = _render("dev", tmp_path / place)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: --out {tmp_path}")
    assert "Traceback" not in ended.stderr


def test_a_chart_version_that_is_not_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "Pulumi.prod.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["config"].setdefault("voicemesh:controlPlane", {})["version"] = "1.30.0"
    (tmp_path / "Pulumi.old.yaml").write_text(yaml.safe_dump(values))
    settings = stack_file.load("old", catalogue(), tmp_path)
    monkeypatch.setattr(stack_file, "load", lambda *_: settings)
    with pytest.raises(
        InvalidInput, match=r"voicemesh:controlPlane.version: release istio-base .*1\.30\.0"
    ):
        render.objects("old")


def test_report(tmp_path: Path) -> None:
    told = _render("dev", tmp_path, "--json")
    report = json.loads(told.stdout)
    assert sum(report["objects"].values()) == len(_files(tmp_path)) - 1
    assert report["objects"]["VirtualService"] >= 15
    assert report["secrets"] == [
        "voiceassistant-infra/ratelimit-redis",
        "voiceassistant-dev/ratelimit-redis",
    ]
    table = _render("dev", tmp_path)
    assert "VirtualService" in table.stdout
    assert table.stdout.count("is made at deployment and has no file") == 2


def test_waves_keep_the_order_of_deployment(stack: str) -> None:
    """Namespaces and definitions before what needs them; policies before the routes they guard."""
    wave: dict[tuple[str, str], list[int]] = {}
    for one in render.in_waves(stack):
        number = int(one["metadata"]["annotations"][render.SYNC_WAVE])
        wave.setdefault((one["kind"], one["metadata"].get("namespace", "")), []).append(number)
        wave.setdefault((one["kind"], "*"), []).append(number)
    assert max(wave["Namespace", "*"]) == 0
    policies = wave["AuthorizationPolicy", "*"] + wave["RequestAuthentication", "*"]
    guarding = wave["PeerAuthentication", "*"] + wave["RequestAuthentication", "*"]
    assert max(guarding) < min(wave["VirtualService", "*"])
    assert max(policies) < min(wave["Gateway", "*"])
    for definitions in wave.get(("CustomResourceDefinition", "*"), []):
        assert definitions < min(policies)
    assert max(wave["VirtualService", "*"]) < min(wave["Gateway", "*"])


def test_waves_change_nothing_but_their_annotation(stack: str, objects: list[Manifest]) -> None:
    without = []
    for one in render.in_waves(stack):
        metadata = dict(one["metadata"])
        annotations = dict(metadata.pop("annotations"))
        del annotations[render.SYNC_WAVE]
        given = next(
            (o["metadata"].get("annotations") for o in objects if _same(o, one)), "not rendered"
        )
        without.append({**one, "metadata": metadata})
        assert annotations == (given or {})
    assert len(without) == len(objects)


def test_parts_name_only_earlier_parts(stack: str) -> None:
    services = catalogue()
    seen: set[str] = set()
    for part in mesh.parts(stack, stack_file.load(stack, services), services):
        assert set(part.after) <= seen
        assert part.name not in seen
        seen.add(part.name)


def _same(one: Manifest, other: Manifest) -> bool:
    return manifests.place(one) == manifests.place(other)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _render(stack: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "render", "--stack", stack, "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _secret_names(value: Any) -> list[str]:
    """Names of all Secrets that a pod template reads."""
    match value:
        case {"secretKeyRef": {"name": name}} | {"secret": {"secretName": name}}:
            return [name]
        case dict():
            return [name for inner in value.values() for name in _secret_names(inner)]
        case list():
            return [name for inner in value for name in _secret_names(inner)]
        case _:
            return []
