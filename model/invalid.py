"""The one error for input that can't be a mesh."""

from __future__ import annotations

from pydantic import ValidationError


class InvalidInput(Exception):
    """A stack file or the catalogue says something that is not allowed.

    Raised before anything is rendered or deployed. `problems` holds one line each: file and key,
    what was found, what is allowed.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def describe(error: ValidationError) -> list[tuple[str, str]]:
    """The problems of a pydantic error as (dotted key, what is wrong with the value found)."""
    return [_describe(item) for item in error.errors(include_url=False)]


def _describe(item: object) -> tuple[str, str]:
    assert isinstance(item, dict)
    location = [part for part in item["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in location)
    found, context = item["input"], item.get("ctx", {})
    match item["type"]:
        case "value_error":
            return key, str(context["error"])
        case "extra_forbidden":
            return key, "this key does not exist"
        case "missing":
            return key, "this key is required and missing"
        case "less_than_equal":
            return key, f"{found} is above {context['le']:g}"
        case "greater_than_equal":
            return key, f"{found} is below {context['ge']:g}"
        case "literal_error":
            return key, f"{found!r} is not allowed; use {context['expected']}"
        case "string_pattern_mismatch":
            return key, f"{found!r} does not have the form {context['pattern']}"
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
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
