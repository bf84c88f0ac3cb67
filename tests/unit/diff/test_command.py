"""`voicemesh diff` as people and workflows call it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import cli.diff
from diff.revisions import NotRendered, checkout, rendered, resolve
from tests.unit.semantics.mesh_objects import ROOT, item

RUNNER = CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(cli.diff.diff)
    return app


def _write(directory: Path, *objects: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(objects):
        (directory / f"{number}.yaml").write_text(yaml.safe_dump(each))
    return directory


def _mtls(mode: str) -> dict[str, Any]:
    return item("PeerAuthentication", "default", {"mtls": {"mode": mode}}, ROOT)


@pytest.fixture
def directories(tmp_path: Path) -> list[str]:
    old = _write(tmp_path / "old", _mtls("STRICT"))
    new = _write(tmp_path / "new", _mtls("PERMISSIVE"))
    return ["--from", str(old), "--to", str(new)]


def test_text(app: typer.Typer, directories: list[str]) -> None:
    done = RUNNER.invoke(app, directories)
    assert done.exit_code == 0
    assert "2 changes open or weaken something" in done.output
    assert "STRICT" in done.output
    assert "PERMISSIVE" in done.output


def test_markdown_to_a_file(app: typer.Typer, directories: list[str], tmp_path: Path) -> None:
    out = tmp_path / "comment.md"
    done = RUNNER.invoke(app, [*directories, "--format", "markdown", "--out", str(out)])
    assert done.exit_code == 0
    assert done.output == ""
    assert out.read_text().startswith("<!-- voicemesh-diff:new -->\n")


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_json(app: typer.Typer, directories: list[str], option: list[str]) -> None:
    found = json.loads(RUNNER.invoke(app, [*directories, *option]).output)
    assert found["changed"] is True
    assert found["weaker"] == 2
    assert [s["key"] for s in found["sections"]] == [
        "access",
        "tls",
        "protection",
        "routes",
        "limits",
        "telemetry",
    ]
    assert found["counts"] == [
        {"kind": "PeerAuthentication", "added": 0, "changed": 1, "removed": 0}
    ]


def test_exit_code_is_one_only_where_asked_and_changed(
    app: typer.Typer, directories: list[str]
) -> None:
    same = [directories[0], directories[1], "--to", directories[1]]
    assert RUNNER.invoke(app, [*directories, "--exit-code"]).exit_code == 1
    assert RUNNER.invoke(app, directories).exit_code == 0
    assert RUNNER.invoke(app, [*same, "--exit-code"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either --stack and --base, or --from and --to"),
        (["--stack", "prod"], "give either --stack and --base"),
        (["--stack", "prod", "--base", "HEAD", "--from", "x"], "give either"),
        (["--stack", "../prod", "--base", "HEAD"], "--stack ../prod"),
        (["--stack", "prod", "--base", "no-such-revision"], "git knows no such commit"),
        (["--stack", "prod", "--base", "--upload-pack=x"], "does not begin with '-'"),
        (
            ["--from", "no-such-directory", "--to", "."],
            "no-such-directory: no such file or directory",
        ),
        (["--stack", "no-such-stack", "--base", "HEAD"], "Pulumi.no-such-stack.yaml: no such file"),
        (["--from", "docs/images", "--to", "."], "--from docs/images: no file there holds a"),
        (["--from", ".", "--to", ".", "--out", "docs"], "--out docs: a directory"),
        (
            ["--from", ".", "--to", ".", "--out", "none/x"],
            "--out none/x: its directory is not there",
        ),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(
    app: typer.Typer, arguments: list[str], says: str
) -> None:
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("broken.yaml", "apiVersion: v1\nkind: Service\nspec: [", "broken.yaml is not YAML"),
        (
            "mixed.yaml",
            "a: 1\n---\nkind: K\napiVersion: v1\nmetadata: {name: n}",
            "document 1 is no",
        ),
        (
            "wrong.yaml",
            "kind: Gateway\napiVersion: networking.istio.io/v1\n"
            "metadata: {name: g}\nspec: {servers: all}",
            "Gateway g: spec.servers is text",
        ),
    ],
)
def test_files_that_can_not_be_read_are_named(
    app: typer.Typer, directories: list[str], tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / "new" / name).write_text(text)
    done = RUNNER.invoke(app, directories)
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("values.yaml", "replicas: 1", "it holds no Kubernetes object"),
        ("kustomization.yaml", "resources: [a.yaml]", "it holds no Kubernetes object"),
        ("notes.json", "{", "it can't be read"),
    ],
)
def test_files_of_other_tools_are_left_out_and_named(
    app: typer.Typer, directories: list[str], tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / "new" / name).write_text(text)
    done = RUNNER.invoke(app, [*directories, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["notes"] == [
        f"--to: {tmp_path / 'new' / name} is left out: {reason}."
    ]


def test_lists_and_several_documents_are_read(app: typer.Typer, tmp_path: Path) -> None:
    old = _write(tmp_path / "old", _mtls("STRICT"), item("Service", "a", {}))
    new = tmp_path / "new"
    new.mkdir()
    both = [_mtls("STRICT"), item("Service", "a", {})]
    (new / "all.yaml").write_text(
        yaml.safe_dump_all([{"apiVersion": "v1", "kind": "List", "items": both}, None])
    )
    done = RUNNER.invoke(app, ["--from", str(old), "--to", str(new), "--exit-code"])
    assert done.exit_code == 0, done.output


RENDERER = """
import sys
from pathlib import Path

def main():
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    out.mkdir(exist_ok=True)
    (out / "x.yaml").write_text("apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: x}\\ndata: {version: '%s'}\\n")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of two revisions, each with a renderer of its own."""
    root = tmp_path / "repository"
    (root / "cli").mkdir(parents=True)
    (root / "cli" / "__init__.py").touch()
    (root / "Pulumi.prod.yaml").touch()
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    for version in ("one", "two"):
        (root / "cli" / "main.py").write_text(RENDERER % version)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", version], check=True)
    return root


def test_each_revision_is_rendered_by_its_own_code(
    app: typer.Typer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.diff, "ROOT", repository)
    done = RUNNER.invoke(app, ["--stack", "prod", "--base", "HEAD~1", "--json"])
    [change] = json.loads(done.output)["objects"]
    assert "-  version: one" in change["lines"]
    assert "+  version: two" in change["lines"]


def test_nothing_stays_behind(repository: Path) -> None:
    with checkout(repository, "HEAD~1") as tree:
        assert (tree / "cli" / "main.py").read_text() == RENDERER % "one"
    assert not tree.exists()
    listed = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(listed.stdout.splitlines()) == 1


def test_a_stack_the_base_does_not_have_is_all_new(
    app: typer.Typer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.diff, "ROOT", repository)
    (repository / "Pulumi.new.yaml").touch()
    found = json.loads(RUNNER.invoke(app, ["--stack", "new", "--base", "HEAD", "--json"]).output)
    assert "has no stack new: everything is new" in found["notes"][0]
    assert [each["status"] for each in found["objects"]] == ["added"]


def test_a_stack_that_is_removed_is_all_gone(
    app: typer.Typer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.diff, "ROOT", repository)
    (repository / "Pulumi.prod.yaml").unlink()
    found = json.loads(RUNNER.invoke(app, ["--stack", "prod", "--base", "HEAD", "--json"]).output)
    assert found["notes"] == ["The working tree has no stack prod: everything is gone."]
    assert [each["status"] for each in found["objects"]] == ["removed"]


def test_a_renderer_that_fails_is_told_with_what_it_said(repository: Path) -> None:
    (repository / "cli" / "main.py").write_text("def main(): raise SystemExit('bad catalogue')")
    with pytest.raises(NotRendered, match="rendering prod failed with exit code 1: bad catalogue"):
        rendered(repository, "prod")


def test_a_revision_is_resolved_to_its_commit(repository: Path) -> None:
    assert len(resolve(repository, "HEAD")) == 40
