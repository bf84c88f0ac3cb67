"""Texts that a match takes, so that requests can be tried that get past it.

Istio's expressions are RE2's; what Python's reader does not know of them is not judged.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

MAX_EXAMPLES = 16
"""How many texts are made of one expression: one for each of its alternatives, up to this."""
ANYTHING = "some"
_PREFERRED = "a1A-/"
"""Characters that are tried first where any of several will do."""


class Unreadable(ValueError):
    """An expression of which no text could be made."""


def taken(match: Any, *, below: str = ANYTHING) -> tuple[str, ...]:
    """Texts that a StringMatch takes; `below` is put behind a prefix, and `/` between where missing.

    Raises:
        Unreadable: an expression of which no text could be made, or no StringMatch at all.
    """
    if not isinstance(match, Mapping):
        raise Unreadable(f"{match!r} is no match")
    if "exact" in match:
        return (str(match["exact"]),)
    if "prefix" in match:
        return (str(match["prefix"]), str(match["prefix"]) + below)
    if "regex" in match:
        return of_expression(str(match["regex"]))
    return (ANYTHING,)


@lru_cache(maxsize=1024)
def of_expression(pattern: str) -> tuple[str, ...]:
    """Texts that the whole expression takes, one for each alternative.

    Raises:
        Unreadable: none could be made.
    """
    try:
        compiled = re.compile(pattern)
        made = itertools.islice(_texts(_parser.parse(pattern)), 256)
        found = dict.fromkeys(text for text in made if compiled.fullmatch(text))
    except (re.error, OverflowError, RecursionError, _Unknown) as problem:
        raise Unreadable(f"expression {pattern!r}: {problem}") from problem
    if not found:
        raise Unreadable(f"expression {pattern!r}: no text was found that it takes")
    return tuple(found)[:MAX_EXAMPLES]


def matches(match: Any, text: str | None, *, ignore_case: bool = False) -> bool:
    """Istio's StringMatch; an empty one asks for presence only. An unreadable one takes nothing."""
    if text is None or not isinstance(match, Mapping):
        return False
    fold = str.lower if ignore_case else str
    if "exact" in match:
        return fold(text) == fold(str(match["exact"]))
    if "prefix" in match:
        return fold(text).startswith(fold(str(match["prefix"])))
    if "regex" in match:
        try:
            return re.fullmatch(str(match["regex"]), text) is not None
        except (re.error, OverflowError, RecursionError):
            return False
    return True


class _Unknown(ValueError):
    """A part of an expression that stands for no text by itself."""


def _texts(parts: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    """A text that a parsed expression takes, then ones that differ from it by one alternative.

    Assertions are left to whoever tries them.
    """
    options = [list(itertools.islice(_part(kind, value), MAX_EXAMPLES)) for kind, value in parts]
    plain = [each[0] for each in options]
    yield "".join(plain)
    for place, alternatives in enumerate(options):
        for other in alternatives[1:]:
            yield "".join([*plain[:place], other, *plain[place + 1 :]])


def _part(kind: Any, value: Any) -> Iterator[str]:
    if kind is _constants.LITERAL:
        yield chr(value)
    elif kind is _constants.NOT_LITERAL:
        yield _one_of([(_constants.NEGATE, None), (_constants.LITERAL, value)])
    elif kind is _constants.ANY:
        yield _PREFERRED[0]
    elif kind is _constants.IN and all(each is _constants.LITERAL for each, _ in value):
        yield from (chr(character) for _, character in value)
    elif kind is _constants.IN:
        yield _one_of(value)
    elif kind is _constants.BRANCH:
        for branch in value[1]:
            yield from _texts(branch)
    elif kind is _constants.SUBPATTERN:
        yield from _texts(value[-1])
    elif kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        least, most, inner = value
        if least == 0:
            yield ""
        for text in _texts(inner) if int(most) else ():
            yield text * max(int(least), 1)
    elif kind is _constants.AT or kind in (_constants.ASSERT, _constants.ASSERT_NOT):
        yield ""
    else:
        raise _Unknown(f"{kind} is not understood")


def _one_of(parts: Sequence[tuple[Any, Any]]) -> str:
    """A character of a class, a plain one where there is one."""
    negated = parts[0][0] is _constants.NEGATE
    members = parts[1:] if negated else parts
    first = [chr(v if k is _constants.LITERAL else v[0]) for k, v in members if k in _SPANS]
    for character in itertools.chain(_PREFERRED, string.printable, first):
        if any(_holds(kind, value, character) for kind, value in members) is not negated:
            return character
    raise _Unknown("a class without a character that could be tried")


def _holds(kind: Any, value: Any, character: str) -> bool:
    if kind is _constants.LITERAL:
        return bool(ord(character) == value)
    if kind is _constants.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    return bool(_CATEGORIES[value].fullmatch(character))


_SPANS = (_constants.LITERAL, _constants.RANGE)
_CATEGORIES = {
    _constants.CATEGORY_DIGIT: re.compile(r"\d"),
    _constants.CATEGORY_NOT_DIGIT: re.compile(r"\D"),
    _constants.CATEGORY_SPACE: re.compile(r"\s"),
    _constants.CATEGORY_NOT_SPACE: re.compile(r"\S"),
    _constants.CATEGORY_WORD: re.compile(r"\w"),
    _constants.CATEGORY_NOT_WORD: re.compile(r"\W"),
}
