"""Writes the table of policies into docs/policies.md: `python -m policies.docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policies.catalogue import SUBJECTS, policies_of
from policies.policy import Policy

PAGE = Path(__file__).resolve().parent.parent / "docs" / "policies.md"
_BEGIN = "<!-- the catalogue begins: python -m policies.docs writes it -->"
_END = "<!-- the catalogue ends -->"


def with_table(page: str) -> str:
    """The page with the catalogue between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page lacks {_BEGIN} or {_END}")
    return "".join([before, _BEGIN, "\n\n", "\n".join(_lines()), "\n", _END, after])


def _lines() -> Iterator[str]:
    for subject in SUBJECTS:
        title = (subject.__doc__ or "").strip().rstrip(".")
        yield f"### {title}"
        yield ""
        yield "| policy | severity | what must hold | settings | also known as |"
        yield "|---|---|---|---|---|"
        yield from (_row(policy) for policy in policies_of(subject))
        yield ""


def _row(policy: Policy) -> str:
    level = str(policy.severity)
    if policy.locked:
        level += ", can't be configured away"
    if policy.reason:
        level += f", advisory: {policy.reason.rstrip('.')}"
    settings = "<br>".join(
        f"`{name}` = {_shown(setting.default)}: {setting.description}"
        for name, setting in policy.settings.items()
    )
    text = f"**{policy.title}.** {policy.text} *{policy.remedy}*"
    cells = [f"[`{policy.id}`]({policy.url})", level, text, settings, ", ".join(policy.codes)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(default: object) -> str:
    if isinstance(default, list):
        return ", ".join(f"`{value}`" for value in default) or "none"
    return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
