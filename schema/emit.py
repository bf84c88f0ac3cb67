"""From flat definitions to Python modules, by datamodel-code-generator and ruff."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from datamodel_code_generator import InputFileType, LiteralType, TargetPydanticVersion, generate
from datamodel_code_generator.enums import DataModelType
from datamodel_code_generator.format import Formatter, PythonVersion

from schema.flatten import Definition
from schema.kinds import Kind

_HEADER = '''"""Wire types: {subject}.

Generated from the CRDs of {source}; do not edit. Regenerate with `python -m schema`.
"""
'''

_ARBITRARY_TYPES = re.compile(
    r"    model_config = ConfigDict\(\s*arbitrary_types_allowed=True,\s*\)\n"
)
"""What the generator adds for types that it does not know; ours are plain annotated types."""
_TITLE = re.compile(r""",\s*title=["']\w+["']""")
"""The generator repeats as title the name that was given to the values of a list or map."""
_FIRST_PARTY = 'lint.isort.known-first-party=["components"]'


def emit(
    package: str,
    module: str,
    definitions: Mapping[str, Definition],
    kinds: Mapping[str, tuple[Kind, str]],
    source: str,
) -> str:
    """The text of one module.

    `kinds` are the whole objects in it: class name → kind and class of its spec. `source` is said
    in the header.
    """
    classes = {
        name: {
            "type": "object",
            "properties": definition.properties,
            "required": list(definition.required),
        }
        for name, definition in definitions.items()
    }
    aliases = {
        f"{name}.{wire_name}": python_name
        for name, definition in definitions.items()
        for wire_name, python_name in definition.python_names.items()
        if wire_name != python_name
    }
    for name, (kind, spec) in kinds.items():
        classes[name] = _object(package, module, kind, spec)
        aliases |= {f"{name}.apiVersion": "api_version"}
    generated = generate(
        {"$defs": _local_references(classes, f"{package}.{module}.")},
        input_file_type=InputFileType.JsonSchema,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        target_pydantic_version=TargetPydanticVersion.V2_11,
        base_class="components.wire.Message",
        aliases=aliases,
        custom_file_header=_HEADER.format(
            subject=", ".join(kinds) or f"what several kinds share from {module}", source=source
        ),
        disable_timestamp=True,
        enum_field_as_literal=LiteralType.All,
        field_constraints=True,
        use_annotated=True,
        use_standard_collections=True,
        use_union_operator=True,
        collapse_root_models=True,
        skip_root_model=True,
        use_title_as_name=True,
        use_type_alias=True,
        use_double_quotes=True,
        use_one_literal_as_default=False,
        formatters=[Formatter.BUILTIN],
    )
    if not isinstance(generated, str):
        raise TypeError(f"the generator gave more than one module for {module}")
    text = _TITLE.sub("", _ARBITRARY_TYPES.sub("", generated))
    return _ruff(_with_exclusions(text, definitions))


def _object(package: str, module: str, kind: Kind, spec: str) -> dict[str, Any]:
    return {
        "type": "object",
        "customBasePath": "components.wire.Manifest",
        "properties": {
            "apiVersion": {"const": kind.api_version, "default": kind.api_version},
            "kind": {"const": kind.name, "default": kind.name},
            "metadata": {"customTypePath": "components.wire.ObjectMeta"},
            "spec": {"customTypePath": f"{package}.{module}.{spec}"},
        },
        "required": ["metadata", "spec"],
    }


def _local_references(node: Any, prefix: str) -> Any:
    """Types of the module itself are referred to, not imported."""
    if isinstance(node, Mapping):
        custom = node.get("customTypePath", "")
        if isinstance(custom, str) and custom.startswith(prefix):
            return {"$ref": f"#/$defs/{custom.removeprefix(prefix)}"}
        return {key: _local_references(value, prefix) for key, value in node.items()}
    if isinstance(node, list):
        return [_local_references(item, prefix) for item in node]
    return node


def _with_exclusions(text: str, definitions: Mapping[str, Definition]) -> str:
    for name, definition in definitions.items():
        if not definition.at_most_one:
            continue
        groups = tuple(
            tuple(definition.python_names[field] for field in group)
            for group in definition.at_most_one
        )
        head = f"class {name}(Message):\n"
        if text.count(head) != 1:
            raise LookupError(f"the generator made no class {name}")
        text = text.replace(head, f"{head}    at_most_one = {groups!r}\n\n")
    return text


def _ruff(text: str) -> str:
    for command in (
        [
            "check",
            "--select=I,F401,UP",
            "--config",
            _FIRST_PARTY,
            "--fix-only",
            "--quiet",
            "--target-version=py311",
        ],
        ["format", "--line-length=100"],
    ):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], "--isolated", *command[1:], "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text
