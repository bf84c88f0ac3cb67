"""The comment fits, can be found again, and nothing in it is taken for markup."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from diff.changes import Change, Diff, Effect, KindCount, ObjectChange, Section, Status
from diff.markdown import LIMIT, markdown, marker


def _diff(changes: int, objects: int, lines: int, text: str = "x" * 60) -> Diff:
    return Diff(
        sections=(
            Section(
                "access",
                "Access",
                tuple(
                    Change(f"pair {n} {text}", "may", None, "any", Effect.WEAKER)
                    for n in range(changes)
                ),
            ),
            Section(
                "routes",
                "Routes",
                tuple(Change(f"r {n} {text}", "timeout", "1s", "2s") for n in range(changes)),
            ),
        ),
        objects=tuple(
            ObjectChange(
                "Kind", "ns", f"o-{n}", Status.CHANGED, tuple(f"+{text}" for _ in range(lines))
            )
            for n in range(objects)
        ),
        counts=(KindCount("Kind", changed=objects),),
    )


@pytest.mark.parametrize(
    ("changes", "objects", "lines"),
    [(1, 1, 1), (10, 700, 40), (3000, 10, 3), (3000, 700, 40), (0, 1, 5000)],
)
def test_a_comment_is_always_short_enough(changes: int, objects: int, lines: int) -> None:
    for text in ("x" * 60, "é🔴" * 30):
        comment = markdown(_diff(changes, objects, lines, text), "prod", artifact="the artifact")
        assert len(comment.encode()) < LIMIT


def test_many_kinds_notes_and_judgements_fit_too() -> None:
    names = [f"Kind{n}{'<' * 50}" for n in range(1500)]
    diff = replace(
        _diff(3000, 10, 3),
        counts=tuple(KindCount(name, added=2, removed=1) for name in names),
        notes=tuple(f"{name} {'@' * 5000}" for name in names),
        unjudged=tuple(names),
    )
    comment = markdown(diff, "prod")
    assert len(comment.encode()) < LIMIT
    assert "| 1440 more kinds | 2880 | - | 1440 |" in comment
    assert "> And 1488 more notes." in comment
    assert "and 1488 more: not all of them is judged" in comment
    assert "🔴" in comment.split("### Objects")[0]


def test_objects_go_first_and_the_dangerous_part_stays() -> None:
    comment = markdown(_diff(50, 700, 40), "prod", artifact="the artifact changes-prod")
    assert comment.count("| 🔴 |") == 50
    assert comment.count("| ⚪ |") == 50
    assert (
        "more objects are not shown here. The whole difference is in the artifact changes-prod."
        in comment
    )


def test_the_least_dangerous_lines_go_next() -> None:
    comment = markdown(_diff(600, 700, 40), "prod", artifact="the artifact")
    assert comment.count("| 🔴 |") > comment.count("| ⚪ |")
    shown = comment.count("| 🔴 |")
    told = f"{600 - shown} 🔴, 600 ⚪" if shown < 600 else f"{600 - comment.count('| ⚪ |')} ⚪"
    assert (
        f"Not shown, for a comment has no room for more: {told}."
        " The whole difference is in the artifact." in comment
    )


def test_a_dangerous_line_stays_wherever_it_stands() -> None:
    """A section behind may have the one line that counts."""
    found = _diff(600, 10, 3)
    last = Change("the one", "access log disabled", "false", "true", Effect.WEAKER)
    quiet = Section("access", "Access", found.sections[1].changes)
    dangerous = Section("telemetry", "Telemetry", (last,))
    comment = markdown(replace(found, sections=(quiet, found.sections[1], dangerous)), "prod")
    assert comment.count("| 🔴 | the one |") == 1
    assert "### Telemetry" in comment
    assert re.search(r"no room for more: \d+ ⚪\.", comment)


def test_every_fold_that_is_opened_is_closed() -> None:
    comment = markdown(_diff(20, 400, 30), "prod")
    assert comment.count("<details>") == comment.count("</details>") > 0
    assert len(re.findall(r"^```", comment, re.MULTILINE)) % 2 == 0


def test_the_marker_is_the_first_line_and_names_the_stack() -> None:
    first = markdown(_diff(1, 1, 1), "staging").split("\n", 1)[0]
    assert first == marker("staging") == "<!-- voicemesh-diff:staging -->"
    assert markdown(Diff((), ()), "staging").startswith(first)


def test_no_change_says_so() -> None:
    assert "No object changes." in markdown(Diff((), ()), "prod")


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("a | b", " a | b "),
        ("@everyone", "@everyone"),
        ("<img src=x>", "<img"),
        ("[click](http://x)", "[click]("),
        ("`code`", " `code` "),
        ("two\nlines", "two\n"),
        ("<!-- voicemesh-diff:prod -->", "<!-- voicemesh-diff:other"),
    ],
)
def test_values_are_never_markup(text: str, forbidden: str) -> None:
    change = Change(text, text, text, text)
    diff = Diff((Section("routes", "Routes", (change,)),), (_object(),), (text,))
    comment = markdown(diff, "stack")
    body = comment.split("\n", 1)[1]
    assert forbidden not in body
    assert "<!--" not in body


def _object(**changes: Any) -> ObjectChange:
    return ObjectChange("Kind", "ns", "name", Status.ADDED, changes.get("lines", ("+a",)))


def test_a_fence_in_an_object_does_not_end_its_block() -> None:
    diff = Diff((), (_object(lines=("+```", "+</details>", "+````")),))
    comment = markdown(diff, "prod")
    assert "`````diff\n" in comment
