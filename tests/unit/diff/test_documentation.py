"""The example in docs/previews.md and its picture are what the program really says."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from rich.console import Console

from diff.markdown import markdown
from diff.terminal import render
from tests.unit.diff.test_pull_requests import STACK, _diff, new_caller, subtle_weakening

DOCS = Path(__file__).parents[3] / "docs"
BEGIN, END = "<!-- example:begin -->\n", "<!-- example:end -->\n"
UPDATE = os.environ.get("UPDATE_GOLDEN")


def test_the_example_comment_is_a_real_one() -> None:
    page = DOCS / "previews.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    # Its own title must not become a title of the page, and no marker may be found in it.
    example = markdown(_diff(subtle_weakening), STACK).split("\n", 2)[2].lstrip("\n")
    example = example.replace("\n### ", "\n#### ")
    if UPDATE:
        page.write_text(before + BEGIN + example + END + after)
    assert page.read_text() == before + BEGIN + example + END + after


def test_the_picture_is_a_real_run() -> None:
    console = Console(record=True, width=132, file=io.StringIO(), force_terminal=True)
    render(_diff(new_caller), console)
    svg = console.export_svg(title="voicemesh diff --stack prod --base origin/main")
    # Fonts from elsewhere: a picture in a repository loads nothing.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    picture = DOCS / "images" / "diff.svg"
    if UPDATE:
        picture.write_text(svg)
    assert picture.read_text() == svg
