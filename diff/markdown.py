"""The difference as a pull request's comment: Markdown, always short enough for GitHub."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from diff.changes import Change, Diff, Effect, ObjectChange, Section, Status

LIMIT = 65_536
"""Characters that GitHub accepts in one comment; a comment must be shorter. Counted in bytes here,
which is never less."""

_MARKS = {Effect.WEAKER: "🔴", Effect.STRICTER: "🟢", Effect.NEUTRAL: "⚪"}
_SIGNS = {Status.ADDED: "added", Status.CHANGED: "changed", Status.REMOVED: "removed"}
_LEAST_DANGEROUS_FIRST = (Effect.NEUTRAL, Effect.STRICTER, Effect.WEAKER)
_LONGEST_CELL = 600
_KINDS = 60
"""How many rows the table of kinds has."""
_NAMED = 12
"""How many of what no section judges, and how many notes, are written out."""


def marker(name: str) -> str:
    """The hidden first line by which a comment is found again, to be edited in place."""
    return f"<!-- voicemesh-diff:{name} -->"


def markdown(diff: Diff, name: str, *, artifact: str = "", limit: int = LIMIT) -> str:
    """The comment. What does not fit is left out: objects first, then the least dangerous lines.

    Args:
        diff: what to show.
        name: of the stack, for the title and the marker.
        artifact: where the whole difference is to be found when something is left out.
        limit: the comment stays below this many bytes.
    """
    head = _head(diff, name)
    if diff.empty:
        return head
    elsewhere = f" The whole difference is in {artifact}." if artifact else ""
    counts = _counts(diff)
    room = limit - 1 - _size(head) - _size(counts) - 600
    kept, left_out = _fitting(diff.sections, room)
    room -= _size(kept)
    if left_out:
        kept += f"\n> Not shown, for a comment has no room for more: {left_out}.{elsewhere}\n"
    return head + kept + counts + _objects(diff.objects, room, elsewhere)


def _head(diff: Diff, name: str) -> str:
    lines = [marker(name), f"## Mesh changes in `{_code(name)}`", ""]
    if diff.empty:
        lines.append("No object changes.")
    else:
        lines.append(_summary(diff))
    notes = [f"> {_cut(note)}" for note in diff.notes[:_NAMED]]
    if len(diff.notes) > _NAMED:
        notes.append(f"> And {len(diff.notes) - _NAMED} more notes.")
    return "\n".join([*lines, "", *notes, ""])


def _summary(diff: Diff) -> str:
    weaker = [f"{s.weaker} in {s.title.lower()}" for s in diff.sections if s.weaker]
    opens = diff.weaker
    if opens:
        verb = "change opens" if opens == 1 else "changes open"
        first = f"**{_MARKS[Effect.WEAKER]} {opens} {verb} or weaken something**"
        first += f" ({', '.join(weaker)})."
    elif diff.unjudged:
        first = f"**{_MARKS[Effect.NEUTRAL]} Nothing that is judged here is opened or weakened.**"
    else:
        first = f"**{_MARKS[Effect.STRICTER]} Nothing is opened or weakened.**"
    total = len(diff.objects)
    differ = f"{first} {total} object{'s differ' if total != 1 else ' differs'}."
    if not diff.unjudged:
        return differ
    named = ", ".join(_cut(each) for each in diff.unjudged[:_NAMED])
    if len(diff.unjudged) > _NAMED:
        named += f" and {len(diff.unjudged) - _NAMED} more"
    return f"{differ} Look at the objects of {named}: not all of them is judged."


def _title(section: Section) -> str:
    return f"\n### {section.title}\n\n| | what | change | from | to |\n|---|---|---|---|---|\n"


def _row(change: Change) -> str:
    note = f" ({_cell(change.note)})" if change.note else ""
    field = change.field or ("new" if change.before is None else "gone")
    cells = (
        _MARKS[change.effect],
        _cell(change.subject),
        f"{_cell(field)}{note}",
        _cell(change.before) if change.before else "-",
        f"**{_cell(change.after)}**" if change.after else "-",
    )
    return f"| {' | '.join(cells)} |"


def _fitting(sections: Sequence[Section], room: int) -> tuple[str, str]:
    """The sections, and how many lines of each effect are left out.

    The least dangerous lines are left out first, of these the last.
    """
    rows = [[_row(change) + "\n" for change in section.changes] for section in sections]
    shown = [[True] * len(found) for found in rows]
    excess = sum(_size(_title(section)) for section in sections if section.changes)
    excess += sum(_size(row) for found in rows for row in found) - room
    left_out: Counter[Effect] = Counter()
    for effect in _LEAST_DANGEROUS_FIRST:
        for place in reversed(range(len(sections))):
            for index, change in reversed(list(enumerate(sections[place].changes))):
                if excess > 0 and change.effect is effect:
                    shown[place][index] = False
                    excess -= _size(rows[place][index])
                    left_out[effect] += 1
    text = ""
    for section, found, kept in zip(sections, rows, shown, strict=True):
        if any(kept):
            text += _title(section) + "".join(itertools.compress(found, kept))
    told = ", ".join(
        f"{left_out[effect]} {_MARKS[effect]}"
        for effect in reversed(_LEAST_DANGEROUS_FIRST)
        if left_out[effect]
    )
    return text, told


def _counts(diff: Diff) -> str:
    rows = [_count(_cell(c.kind), c.added, c.changed, c.removed) for c in diff.counts[:_KINDS]]
    if rest := diff.counts[_KINDS:]:
        added, changed = sum(c.added for c in rest), sum(c.changed for c in rest)
        removed = sum(c.removed for c in rest)
        rows.append(_count(f"{len(rest)} more kinds", added, changed, removed))
    titles = "| kind | added | changed | removed |\n|---|---|---|---|\n"
    return f"\n### Objects\n\n{titles}{''.join(rows)}"


def _count(kind: str, added: int, changed: int, removed: int) -> str:
    return f"| {kind} | {added or '-'} | {changed or '-'} | {removed or '-'} |\n"


def _objects(objects: Sequence[ObjectChange], room: int, elsewhere: str) -> str:
    text = ""
    for index, part in enumerate(_folded(objects)):
        if _size(text) + _size(part) > room:
            left = len(objects) - index
            noun = "object is" if left == 1 else "objects are"
            return f"{text}\n> {left} more {noun} not shown here.{elsewhere}\n"
        text += part
    return text


def _folded(objects: Sequence[ObjectChange]) -> Iterator[str]:
    for change in objects:
        body = "\n".join(change.lines)
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", body)), default=0))
        yield (
            f"\n<details><summary>{_SIGNS[change.status]}: {_html(str(change))}</summary>\n\n"
            f"{fence}diff\n{body}\n{fence}\n\n</details>\n"
        )


def _cell(text: str) -> str:
    """Text for a table's cell: nothing in it is read as Markdown, HTML or a mention."""
    return _cut(text).replace("|", "\\|")


def _cut(text: str) -> str:
    """A text of a length that leaves room for others."""
    return _escaped(text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …")


def _escaped(text: str) -> str:
    text = re.sub(r"([\\`*_\[\]#~])", r"\\\1", text.replace("\n", " "))
    return _html(text)


def _html(text: str) -> str:
    # A zero-width space after @ keeps names in objects from notifying people.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("@", "@\u200b").replace("://", ":\u200b//")


def _code(text: str) -> str:
    return text.replace("`", "'")


def _size(text: str) -> int:
    return len(text.encode())
