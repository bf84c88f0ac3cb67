"""Writes what docs/policies.md lists, the export and the table: `python -m policies.docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policies.catalogue import SUBJECTS, policies_of
from policies.kinds import RESOURCES
from policies.policy import Policy

PAGE = Path(__file__).resolve().parent.parent / "docs" / "policies.md"
_BEGIN = "<!-- the {} begins: python -m policies.docs writes it -->"
_END = "<!-- the {} ends -->"
_WIDTH = 96


def with_table(page: str) -> str:
    """The page with the export and the catalogue, each between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    return _between(_between(page, "export", _export()), "catalogue", _lines())


def _between(page: str, part: str, lines: Iterator[str]) -> str:
    before, begin, rest = page.partition(_BEGIN.format(part))
    _, end, after = rest.partition(_END.format(part))
    if not begin or not end:
        raise ValueError(f"the page lacks the marks of the {part}")
    return "".join([before, begin, "\n\n", "\n".join(lines), "\n", end, after])


def _export() -> Iterator[str]:
    """A command that writes all that policies read into one file."""
    yield "```"
    yield "for kind in \\"
    line = " "
    for resource in RESOURCES.values():
        if len(line) + len(resource) + 3 > _WIDTH:
            yield f"{line} \\"
            line = " "
        line += f" {resource}"
    yield line
    yield 'do kubectl get -A -o yaml "$kind"; echo ---; done > mesh.yaml'
    yield "voicemesh check --manifests mesh.yaml"
    yield "```"
    yield ""


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
