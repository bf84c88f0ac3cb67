"""The one error for input that can't be a mesh."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


class InvalidInput(Exception):
    """A stack file or the catalogue says something that is not allowed.

    Raised before anything is rendered or deployed. `problems` holds one line each: file and key,
    what was found, what is allowed.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


UNKNOWN_KEY = "this key does not exist"


def describe(error: ValidationError) -> list[tuple[str, str]]:
    """The problems of a pydantic error as (dotted key, what is wrong with the value found)."""
    items: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    places = [item["loc"] for item in items]
    return [
        _describe(item)
        for item in items
        # pydantic counts only the members that are right: a list whose members are all wrong is
        # said to be too short as well.
        if not (item["type"] == "too_short" and item["input"] and _has_deeper(item["loc"], places))
    ]


def _has_deeper(place: tuple[Any, ...], places: list[tuple[Any, ...]]) -> bool:
    return any(len(one) > len(place) and one[: len(place)] == place for one in places)


_KINDS = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "model_attributes": "a mapping of keys to values",
}
"""What is asked for where pydantic's error is `KIND_type` or `KIND_parsing`."""


def _describe(item: dict[str, Any]) -> tuple[str, str]:
    location = [part for part in item["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in location)
    found, context = item["input"], item.get("ctx", {})
    kind, _, fault = item["type"].rpartition("_")
    match item["type"]:
        case "value_error":
            return key, str(context["error"])
        case "extra_forbidden":
            return key, UNKNOWN_KEY
        case "missing":
            return key, "this key is required and missing"
        case "less_than_equal":
            return key, f"{found} is above {context['le']:g}"
        case "greater_than_equal":
            return key, f"{found} is below {context['ge']:g}"
        case "literal_error":
            return key, f"{_shown(found)} is not allowed; use {context['expected']}"
        case "string_pattern_mismatch":
            return key, f"{_shown(found)} does not have the form {context['pattern']}"
        case "too_short" | "string_too_short":
            length = context.get("actual_length", len(found))
            return (
                key,
                f"{_shown(found)}: the length is {length}, at least {context['min_length']} is needed",
            )
        case _ if fault in {"type", "parsing"} and kind in _KINDS:
            return key, f"{_shown(found)} is not {_KINDS[kind]}"
        case _:
            message = str(item["msg"])
            return key, f"{_shown(found)}: {message[0].lower()}{message[1:]}"


def _is_branch(part: object) -> bool:
    """True for the markers that pydantic puts into a location for unions and validators."""
    return isinstance(part, str) and (
        part.startswith(("function-", "literal[", "constrained-", "tagged-union"))
        or part in {"[key]", "HashOn", "tuple[Name,...]"}
    )


def _shown(value: object) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
