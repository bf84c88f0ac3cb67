"""The README's examples, run as a reader would: what it prints is what is printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.stack_file import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(after: str, language: str) -> str:
    """The first fenced block of a language below a heading."""
    section = README.partition(f"## {after}\n")[2].partition("\n## ")[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"the README has no {language} block under {after}"
    return found[1]


def printed(after: str) -> list[str]:
    """The output lines of the first console block below a heading."""
    return [line.rstrip() for line in block(after, "console").splitlines()[1:]]


class Clone:
    """A copy of the project that an example may change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name)

    def voicemesh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        start = "import sys; sys.argv[0] = 'voicemesh'; from cli.main import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(self.root), "COLUMNS": "80"}
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def difference(self) -> list[str]:
        """What `voicemesh diff` prints between the directories before and after."""
        assert self.voicemesh("render", "--stack", "prod", "--out", "after").returncode == 0
        answer = self.voicemesh("diff", "--from", "before", "--to", "after", "--summary")
        assert answer.returncode == 0, answer.stderr
        return [line.rstrip() for line in answer.stdout.rstrip().splitlines()]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    copy = Clone(tmp_path)
    answer = copy.voicemesh("render", "--stack", "prod", "--out", "before")
    assert answer.returncode == 0, answer.stderr
    return copy


def test_change_a_timeout(clone: Clone) -> None:
    stack_file = clone.root / "Pulumi.prod.yaml"
    with stack_file.open("a", encoding="utf-8") as file:
        file.write(block("Change a timeout", "yaml"))
    assert clone.difference() == printed("Change a timeout")


def test_add_a_service(clone: Clone) -> None:
    catalogue = clone.root / "model" / "catalogue.py"
    text = catalogue.read_text(encoding="utf-8")
    end = "    )\n\n\ndef catalogue()"
    assert text.count(end) == 1
    catalogue.write_text(
        text.replace(end, block("Add a service", "python") + end), encoding="utf-8"
    )
    expected = printed("Add a service")
    assert clone.difference()[-len(expected) :] == expected


def test_add_an_environment(tmp_path: Path) -> None:
    copy = Clone(tmp_path)
    text = (copy.root / "Pulumi.staging.yaml").read_text(encoding="utf-8").replace("staging", "qa")
    stack_file = copy.root / "Pulumi.qa.yaml"
    stack_file.write_text(text, encoding="utf-8")
    answer = copy.voicemesh("check", "--stack", "qa")
    assert answer.stdout.split("\n")[0] == printed("Add an environment")[-1]

    stack_file.write_text(text.replace("default: 50", "default: 150"), encoding="utf-8")
    answer = copy.voicemesh("check", "--stack", "qa")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.strip() in README


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
