"""Pulumi.yaml declares every setting, with type, description and default, and is not stale."""

from __future__ import annotations

import json

import pytest
import yaml

from model import project_file
from model.settings import Settings
from model.stack_file import ROOT, read, stacks

PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
FIELDS = {f"voicemesh:{field.alias or n}": field for n, field in Settings.model_fields.items()}


def test_it_is_what_the_settings_say() -> None:
    assert project_file.main(["--check"]) == 0, "run python -m model.project_file"


def test_a_stale_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_file, "project_file", lambda: "name: other\n")
    assert project_file.main(["--check"]) == 1


def test_runtime() -> None:
    assert PROJECT["name"] == "voicemesh"
    assert PROJECT["runtime"] == {
        "name": "python",
        "options": {"toolchain": "pip", "virtualenv": ".venv"},
    }


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_is_declared(key: str) -> None:
    declared = PROJECT["config"][key]
    # The types that the engine knows; it refuses a project file with another.
    assert declared["type"] in {"string", "integer", "boolean", "array", "object"}
    assert declared["description"]
    assert ("default" in declared) != FIELDS[key].is_required()
    assert declared["type"] != "array" or "items" in declared


def test_nothing_else_is_declared() -> None:
    assert PROJECT["config"].keys() == FIELDS.keys()


def test_defaults_are_the_settings_own() -> None:
    """What the engine fills in for a key that a stack leaves out means what the model means."""
    defaults = {
        key.removeprefix("voicemesh:"): declared["default"]
        for key, declared in PROJECT["config"].items()
        if "default" in declared
    }
    required = {k: v for k, v in read(ROOT / "Pulumi.prod.yaml").items() if k not in defaults}
    given = Settings.model_validate_json(
        json.dumps({**defaults, **required}), by_name=False, by_alias=True
    )
    left_out = Settings.model_validate_json(json.dumps(required), by_name=False, by_alias=True)
    assert given == left_out


@pytest.mark.parametrize("stack", stacks())
def test_stacks_set_declared_keys_only(stack: str) -> None:
    assert {f"voicemesh:{key}" for key in read(ROOT / f"Pulumi.{stack}.yaml")} <= FIELDS.keys()
