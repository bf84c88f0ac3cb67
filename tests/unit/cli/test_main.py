"""The command line as a whole: verbs, exit codes, what a user sees of a failure."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest
import typer

import cli.main
from cli.main import VERBS
from lab.errors import LabError
from model.invalid import InvalidInput
from model.stack_file import ROOT

PROGRAM = Path(sys.executable).parent / "voicemesh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed program, as a user starts it."""
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_help_names_every_verb() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for verb in VERBS:
        assert f"│ {verb} " in shown.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_says_what_it_does(verb: str) -> None:
    module, _, attribute = VERBS[verb].partition(":")
    found = getattr(import_module(module), attribute)
    text = found.info.help if isinstance(found, typer.Typer) else found.__doc__
    assert text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nope"], "No such command 'nope'"),
        (["render"], "Missing option '--"),
        (["render", "--stack", "dev", "--out", "x", "--colour"], "No such option"),
        (["render", "--stack"], "requires an argument"),
        (["lab", "explode"], "No such command 'explode'"),
    ],
)
def test_wrong_usage(arguments: list[str], problem: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert problem in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "verb", ["render --out nowhere", "preview", "up", "destroy --yes --allow-production"]
)
def test_a_missing_stack_is_told_by_the_real_program(verb: str) -> None:
    ended = run(*verb.split(), "--stack", "nowhere")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        "error: Pulumi.nowhere.yaml: there is no such stack file (stacks: dev, prod, staging)"
    )
    assert "Traceback" not in ended.stderr
    assert not (ROOT / "nowhere").exists()


class Failure(Exception):
    """Something nobody expects."""


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (
            InvalidInput("file: key: one", "file: key: two"),
            2,
            "error: file: key: one\nerror: file: key: two\n",
        ),
        (LabError("etcd did not start"), 1, "error: etcd did not start\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on\n"),
    ],
)
def test_failures(
    error: BaseException,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        _main(error, monkeypatch)
    assert ended.value.code == status
    assert capsys.readouterr() == ("", told)


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure):
        _main(Failure(), monkeypatch)


def _main(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def render() -> NoReturn:
        raise error

    monkeypatch.setattr("cli.render.render", render)
    monkeypatch.setattr(sys, "argv", ["voicemesh", "render"])
    cli.main.main()


def test_start_up_imports_only_the_verb_that_was_asked_for() -> None:
    code = (
        "import sys, cli.main\n"
        "sys.argv = ['voicemesh', 'lab', '--help']\n"
        "try: cli.main.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'pulumi', 'lightkube', 'yaml', 'mesh'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]"
