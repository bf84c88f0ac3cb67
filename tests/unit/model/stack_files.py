"""Stack files for tests: the project's own, with one thing changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from model.stack_file import PROJECT, ROOT

Edit = Callable[[dict[str, Any]], None]
"""Changes the `config` section, whose keys are without `voicemesh:`."""


def config(stack: str = "dev") -> dict[str, Any]:
    """The `config` section of one of the project's stack files, without `voicemesh:`."""
    text = (ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")
    keys: dict[str, Any] = yaml.safe_load(text)["config"]
    return {key.removeprefix(f"{PROJECT}:"): value for key, value in keys.items()}


def write(root: Path, values: dict[str, Any], stack: str = "dev") -> Path:
    """A stack file with these keys below `root`."""
    path = root / f"Pulumi.{stack}.yaml"
    whole = {"config": {f"{PROJECT}:{key}": value for key, value in values.items()}}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def put(key: str, value: Any) -> Edit:
    """Sets a dotted key (`telemetry.sampling.ai`, `authentication.issuers.0.issuer`)."""

    def edit(values: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        place: Any = values
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = copy.deepcopy(value)

    return edit


def drop(key: str) -> Edit:
    """Removes a dotted key."""

    def edit(values: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        place: Any = values
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        del place[int(last) if isinstance(place, list) else last]

    return edit
