"""Reading files of any kind: objects are found, other tools' files named, mistakes refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests import scan
from model.invalid import InvalidInput

OBJECT = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n"
OTHER_FILES = {
    "kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
    "chart/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
    "chart/values.yaml": "replicas: 2\n",
    "chart/templates/strict.yaml": 'apiVersion: v1\nkind: A\nmetadata: {name: "{{ .Values.x }}"}\n',
    "template.yaml": "apiVersion: v1\nkind: A\nmetadata:\n  name: {{ .name }}\n  {{- if .x }}\n",
    "compose.yml": "services: {a: {image: b}}\n",
    "package.json": '{"name": "shop"}',
    "tsconfig.json": "{ // with a comment\n}",
    "tagged.yaml": "a: !Ref b\n",
    "list.yaml": "- 1\n- 2\n",
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    for name, content in OTHER_FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "latin.yaml").write_bytes("a: ü".encode("latin-1"))
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "mesh.yaml").write_text(OBJECT)
    return tmp_path


def test_what_is_no_object_in_a_directory_is_skipped(mixed: Path) -> None:
    found = scan([mixed])
    assert [item["metadata"]["name"] for item in found.objects] == ["a"]
    skipped = {str(Path(each.file).relative_to(mixed)): each.reason for each in found.skipped}
    assert set(skipped) == {*OTHER_FILES, "latin.yaml", "empty.yaml"}
    assert skipped["chart/templates/strict.yaml"].startswith("a chart's template")
    assert skipped["template.yaml"] == "a template: render it first"


@pytest.mark.parametrize("name", sorted(set(OTHER_FILES) - {"chart/templates/strict.yaml"}))
def test_a_file_that_is_named_itself_is_not_skipped(mixed: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=Path(name).name):
        scan([mixed / "mesh.yaml", mixed / name])


@pytest.mark.parametrize(
    "content",
    [
        "apiVersion: v1\nkind: A\nmetadata: {name: a\n",
        '{"apiVersion": "v1", "kind": "A", }',
        "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\na: 1\n",
        "kind: A\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: A\nmetadata: {labels: {}}\n",
        "apiVersion: v1\nkind: A\nmetadata: {name: a}\nspec: {text: '{{ $labels.x }}'\n",
        "\xff\xfea\x00p\x00i\x00V\x00e\x00r\x00s\x00i\x00o\x00n\x00",
    ],
)
def test_what_was_meant_to_be_an_object_is_not_skipped(tmp_path: Path, content: str) -> None:
    file = tmp_path / f"meant.{'json' if content.startswith('{') else 'yaml'}"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInput, match=file.name):
        scan([tmp_path])


def test_a_name_that_the_cluster_completes_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("{apiVersion: v1, kind: A, metadata: {generateName: a-}}")
    assert [item["metadata"]["name"] for item in scan([tmp_path]).objects] == ["a-"]
