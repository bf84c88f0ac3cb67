"""Which way a stack is deployed, what the engine is given, and what may not be destroyed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi import automation

import cli.main
import render
from apply import engine
from apply.kubectl import Kubectl


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    return path


@pytest.fixture
def selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A pulumi on PATH, and the calls that reach the Automation API."""
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(engine, "LOCAL_BACKEND", tmp_path / "state")
    calls: list[Any] = []

    def select(stack_name: str, work_dir: str, opts: automation.LocalWorkspaceOptions) -> Any:
        calls.append(SimpleNamespace(name=stack_name, environment=dict(opts.env_vars or {})))

        def verb(name: str) -> Any:
            def ran(on_output: Callable[[str], None]) -> None:
                calls.append(name)
                on_output(f"{name} done\n")

            return ran

        return SimpleNamespace(**{name: verb(name) for name in ("preview", "up", "destroy")})

    monkeypatch.setattr(automation, "create_or_select_stack", select)
    return calls


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["voicemesh", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main.main()
    status = ended.value.code or 0
    assert isinstance(status, int)
    return status


@pytest.mark.parametrize("verb", ["preview", "up"])
def test_pulumi_is_taken_where_it_is(
    verb: str,
    selected: list[Any],
    kubeconfig: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    assert run(monkeypatch, verb, "--stack", "dev", "--kubeconfig", str(kubeconfig)) == 0
    told = capsys.readouterr()
    assert "through the Pulumi engine" in told.err
    assert f"{verb} done" in told.out
    chosen, called = selected
    assert (chosen.name, called) == ("dev", verb)
    assert chosen.environment["KUBECONFIG"] == str(kubeconfig)
    assert chosen.environment["PULUMI_BACKEND_URL"] == f"file://{engine.LOCAL_BACKEND}"


@pytest.mark.parametrize("verb", ["preview", "up"])
def test_bad_input_never_reaches_the_engine(
    verb: str,
    selected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, verb, "--stack", "nowhere") == 2
    assert "there is no such stack file" in capsys.readouterr().err
    assert selected == []


def test_the_users_backend_is_the_users(
    selected: list[Any], kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://theirs")
    assert run(monkeypatch, "up", "--stack", "dev", "--kubeconfig", str(kubeconfig)) == 0
    assert "PULUMI_BACKEND_URL" not in selected[0].environment


def test_only_dev_has_a_backend_by_default(
    selected: list[Any], kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    assert run(monkeypatch, "up", "--stack", "prod", "--kubeconfig", str(kubeconfig)) == 0
    assert not {key for key in selected[0].environment if key.startswith("PULUMI")}


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_destroy_protects_all_but_dev(
    stack: str,
    selected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "destroy", "--stack", stack, "--yes") == 2
    assert "--allow-production" in capsys.readouterr().err
    assert selected == []


def test_destroy_asks(
    selected: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert run(monkeypatch, "destroy", "--stack", "dev") == 2
    assert "--yes" in capsys.readouterr().err
    assert selected == []


def test_destroy_goes_through_the_engine_too(
    selected: list[Any], kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--stack", "dev", "--yes", "--kubeconfig", str(kubeconfig))
    assert run(monkeypatch, "destroy", *given) == 0
    assert selected[1] == "destroy"


def test_an_installer_that_can_not_be_reached_is_told(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(engine, "available", lambda: False)
    monkeypatch.setattr(automation.PulumiCommand, "install", refused)
    given = ("--stack", "dev", "--install-pulumi", "--kubeconfig", str(kubeconfig))
    assert run(monkeypatch, "up", *given) == 1
    told = capsys.readouterr().err
    assert "the Pulumi CLI can't be installed from here: no route to host" in told
    assert "server-side apply" in told


def test_what_a_mandatory_policy_refuses_is_not_deployed(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "legacy", "namespace": "voiceassistant-dev"},
        "spec": {"mtls": {"mode": "PERMISSIVE"}},
    }
    declared = [*render.declared("dev"), weak]
    asked: list[object] = []
    monkeypatch.setattr(render, "declared", lambda _stack: declared)
    monkeypatch.setattr(Kubectl, "run", lambda *arguments, **_: asked.append(arguments))
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(monkeypatch, "up", "--stack", "dev", "--kubeconfig", str(kubeconfig)) == 1
    said = capsys.readouterr().err
    assert "mandatory policies; nothing was deployed" in said
    assert "PeerAuthentication voiceassistant-dev/legacy" in said
    assert asked == []
