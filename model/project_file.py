"""The config schema in `Pulumi.yaml`, made from `Settings`: `python -m model.project_file`.

`--check` exits 1 when the file is not what the settings say. Source of the schema:
https://www.pulumi.com/docs/iac/concepts/projects/project-file/
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic_core import PydanticUndefined

from model.settings import Settings
from model.stack_file import PROJECT, ROOT

PROJECT_FILE = ROOT / "Pulumi.yaml"
_HEAD = {
    "name": PROJECT,
    "description": "The VoiceAssistant service mesh: Istio as typed Python",
    "runtime": {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}},
}
_TYPES = {"string": "string", "array": "array", "object": "object"}


def project_file() -> str:
    """The whole text of `Pulumi.yaml`."""
    schema = Settings.model_json_schema(by_alias=True)
    config = {
        f"{PROJECT}:{field.alias or name}": _declaration(
            schema["properties"][field.alias or name], field.default, field.description
        )
        for name, field in Settings.model_fields.items()
    }
    head = (
        "# The config section is made from model/settings.py by `python -m model.project_file`.\n"
    )
    text: str = yaml.safe_dump({**_HEAD, "config": config}, sort_keys=False, width=100)
    return head + text


def _declaration(schema: dict[str, Any], default: Any, description: str | None) -> dict[str, Any]:
    declared: dict[str, Any] = {"type": _TYPES[schema.get("type", "object")]}
    if declared["type"] == "array":
        declared["items"] = {"type": "string"}
    if description:
        declared["description"] = " ".join(description.split())
    if default is not PydanticUndefined:
        declared["default"] = _plain(default)
    return declared


def _plain(default: Any) -> Any:
    dump = getattr(default, "model_dump", None)
    plain = dump(mode="json", by_alias=True, exclude_none=True) if dump else default
    return list(plain) if isinstance(plain, tuple) else plain


def main(arguments: list[str]) -> int:
    """Writes the file, or with `--check` compares it."""
    if arguments == ["--check"]:
        if PROJECT_FILE.read_text(encoding="utf-8") == project_file():
            return 0
        sys.stderr.write("Pulumi.yaml is stale: run `python -m model.project_file`\n")
        return 1
    PROJECT_FILE.write_text(project_file(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
