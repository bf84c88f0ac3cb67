"""Whatever stands in a stack file: either settings, or problems that each name file and key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import mesh
from model import stack_file
from model.catalogue import catalogue
from model.invalid import InvalidInput
from model.settings import Settings
from tests.unit.model.stack_files import config

CATALOGUE = catalogue()
SOURCE = "Pulumi.dev.yaml"
STACKS = {stack: config(stack) for stack in ("dev", "staging", "prod")}
KEYS = sorted({field.alias or name for name, field in Settings.model_fields.items()})

# A problem names the file, then the key it is about: one that settings have, or one that was
# found where none is expected.
LINE = re.compile(rf"{re.escape(SOURCE)}: voicemesh:(?P<key>[^\n]*?): (?P<problem>\S[^\n]*)")

texts = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "*",
        "10s",
        "-1s",
        "0",
        "1e9s",
        "NaN",
        "dev.example.com",
        "::/0",
        "203.0.113.0/24",
        "/",
        "/a",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | texts
    | st.dates()
    | st.binary(max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.sampled_from(KEYS) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS) | texts, values, max_size=6))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_anything_at_all(raw: dict[str, Any]) -> None:
    _settings_or_problems(raw)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A stack's own settings with one to three things changed somewhere in them."""
    raw: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(STACKS[draw(st.sampled_from(sorted(STACKS)))])
    )
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(raw))
        assume(places)
        where, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "remove", "rename", "wrap", "negate", "double"])):
            case "remove":
                del where[key]
            case "rename" if isinstance(where, dict):
                where[draw(texts)] = where.pop(key)
            case "wrap":
                where[key] = [where[key]]
            case "negate" if type(where[key]) in (int, float):
                where[key] = -where[key]
            case "double" if isinstance(where[key], list):
                where[key] = where[key] * 2
            case _:
                where[key] = draw(values)
    return raw


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested settings."""
    match value:
        case dict():
            keys = list(value)
        case list():
            keys = list(range(len(value)))
        case _:
            return []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


@given(mutated())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_stack_with_something_changed(raw: dict[str, Any]) -> None:
    if (found := _settings_or_problems(raw)) is not None:
        # What the loader lets through makes a mesh: no builder meets a value it can't write.
        for part in mesh.parts("dev", found, CATALOGUE):
            part.objects()


def _settings_or_problems(raw: dict[str, Any]) -> Settings | None:
    try:
        return stack_file.parse(raw, SOURCE, CATALOGUE)
    except InvalidInput as error:
        problems = error.problems
    assert problems
    for problem in problems:
        match = LINE.fullmatch(problem)
        assert match, f"names no file or no key: {problem!r}"
        key = match["key"].strip("'")
        assert any(key.startswith(known) for known in (*KEYS, *map(str, raw))) or "\\" in key
    return None


@given(
    st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SOURCE).write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        stack_file.load("dev", CATALOGUE, tmp_path)
    assert all(line.startswith(SOURCE) and "\n" not in line for line in refused.value.problems)
