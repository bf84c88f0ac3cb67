"""The difference in a terminal: tables, colours where the terminal has them."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from diff.changes import Change, Diff, Effect, ObjectChange, Section, Status

_STYLES = {Effect.WEAKER: "bold red", Effect.STRICTER: "green", Effect.NEUTRAL: ""}
_MARKS = {Effect.WEAKER: "!", Effect.STRICTER: "+", Effect.NEUTRAL: " "}
_SIGNS = {Status.ADDED: "+", Status.CHANGED: "~", Status.REMOVED: "-"}


def render(diff: Diff, console: Console, *, objects: bool = True) -> None:
    """Prints the difference; `objects=False` leaves out the objects' own lines."""
    for part in parts(diff, objects=objects):
        console.print(part)


def parts(diff: Diff, *, objects: bool = True) -> list[RenderableType]:
    """What is printed, piece by piece."""
    found: list[RenderableType] = [Text(f"note: {note}", style="yellow") for note in diff.notes]
    if diff.empty:
        return [*found, Text("No object changes.")]
    found.append(_summary(diff))
    found += [_section(section) for section in diff.sections if section.changes]
    found.append(_counts(diff))
    if objects:
        found += [_object(change) for change in diff.objects]
    return found


def _summary(diff: Diff) -> Text:
    one = len(diff.objects) == 1
    total = f"{len(diff.objects)} {'object differs' if one else 'objects differ'}"
    if diff.weaker:
        what = (
            "1 change opens or weakens"
            if diff.weaker == 1
            else f"{diff.weaker} changes open or weaken"
        )
        return Text(f"{total}; {what} something", style="bold red")
    if diff.unjudged:
        return Text(
            f"{total}; nothing that is judged here is opened or weakened,"
            f" look at the objects of {', '.join(diff.unjudged)}",
            style="bold yellow",
        )
    return Text(f"{total}; nothing is opened or weakened", style="bold green")


def _section(section: Section) -> RenderableType:
    table = Table(title=section.title, title_justify="left", title_style="bold", expand=False)
    for name in ("", "what", "change", "from", "to"):
        table.add_column(name, overflow="fold")
    for change in section.changes:
        table.add_row(*_cells(change), style=_STYLES[change.effect])
    return table


def _cells(change: Change) -> tuple[str, ...]:
    field = change.field or ("new" if change.before is None else "gone")
    note = f" ({change.note})" if change.note else ""
    return (
        _MARKS[change.effect],
        escape(change.subject),
        escape(field + note),
        escape(change.before or "-"),
        escape(change.after or "-"),
    )


def _counts(diff: Diff) -> RenderableType:
    table = Table(title="Objects", title_justify="left", title_style="bold")
    table.add_column("kind")
    for name in ("added", "changed", "removed"):
        table.add_column(name, justify="right")
    for count in diff.counts:
        table.add_row(
            count.kind, *(str(n or "-") for n in (count.added, count.changed, count.removed))
        )
    return table


def _object(change: ObjectChange) -> RenderableType:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    lines = [Text(f"{_SIGNS[change.status]} {change}", style="bold")]
    lines += [Text("  " + line, style=styles.get(line[:1], "")) for line in change.lines]
    return Group(*lines)
