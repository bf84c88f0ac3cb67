"""What an access log's filter lets through: CEL expressions, as far as response codes decide them.

Source: https://istio.io/latest/docs/reference/config/telemetry/#AccessLogging-Filter
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(\|\||&&|==|!=|<=|>=|<|>|!|\(|\))|(-?\d+)|(\"[^\"]*\"|'[^']*')|"
    r"([A-Za-z_][\w.]*(?:\[[^\]]*\]|\([^()]*\)|\.[\w.]+)*))"
)
_COMPARING: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNKNOWN = object()


class _Unreadable(ValueError):
    """The expression has something that is not read here."""


def lets_through(expression: str, code: int) -> bool | None:
    """Whether a filter is true for a request that was answered with a code.

    None where something else than the code decides, or the expression is not understood.
    """
    try:
        tokens = _tokens(expression)
        value = _or(tokens, code)
    except (_Unreadable, IndexError, RecursionError):
        return None
    return value if isinstance(value, bool) and not tokens else None


def _tokens(expression: str) -> list[str]:
    found, position, text = [], 0, expression.strip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise _Unreadable(text[position:])
        found.append(token.group().strip())
        position = token.end()
    return found


def _or(tokens: list[str], code: int) -> Any:
    value = _and(tokens, code)
    while tokens and tokens[0] == "||":
        tokens.pop(0)
        other = _and(tokens, code)
        value = True if value is True or other is True else _both(value, other)
    return value


def _and(tokens: list[str], code: int) -> Any:
    value = _comparison(tokens, code)
    while tokens and tokens[0] == "&&":
        tokens.pop(0)
        other = _comparison(tokens, code)
        value = False if value is False or other is False else _both(value, other)
    return value


def _both(one: Any, other: Any) -> Any:
    """What is left where neither side decides alone."""
    return one if one is other else _UNKNOWN


def _comparison(tokens: list[str], code: int) -> Any:
    value = _operand(tokens, code)
    if tokens and tokens[0] in _COMPARING:
        compare = _COMPARING[tokens.pop(0)]
        other = _operand(tokens, code)
        if value is _UNKNOWN or other is _UNKNOWN or type(value) is not type(other):
            return _UNKNOWN
        return compare(value, other)
    return value


def _operand(tokens: list[str], code: int) -> Any:
    part = tokens.pop(0)
    if part == "!":
        value = _operand(tokens, code)
        return not value if isinstance(value, bool) else _UNKNOWN
    if part == "(":
        value = _or(tokens, code)
        if tokens.pop(0) != ")":
            raise _Unreadable(part)
        return value
    if part in ("true", "false"):
        return part == "true"
    if part == "response.code":
        return code
    if part.lstrip("-").isdigit():
        return int(part)
    if part[0] in "\"'":
        return part[1:-1]
    if part in _COMPARING or part in ("&&", "||", ")"):
        raise _Unreadable(part)
    return _UNKNOWN
