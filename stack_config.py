"""Settings as the engine hands them over: stack file, project defaults and `--config` together."""

from __future__ import annotations

import json
from typing import Any

from pulumi.runtime import config

from model import stack_file
from model.access import Catalogue
from model.invalid import InvalidInput
from model.settings import Settings


def load(stack: str, catalogue: Catalogue) -> Settings:
    """The stack's settings from the engine's config.

    Raises:
        InvalidInput: a key says something that is not allowed; naming the stack file and the key.
    """
    prefix = f"{stack_file.PROJECT}:"
    # All keys, not only those somebody asks for: a key that no setting has must be refused.
    given = {**config.get_config_env(), **config.CONFIG.get()}
    secret = [key for key in config.get_config_secret_keys_env() if key.startswith(prefix)]
    if secret:
        raise InvalidInput(
            *(
                f"Pulumi.{stack}.yaml: {key}: the value is a secret; no key of this project is,"
                " set it in clear"
                for key in sorted(secret)
            )
        )
    raw = {
        key.removeprefix(prefix): _value(value)
        for key, value in given.items()
        if key.startswith(prefix)
    }
    return stack_file.parse(raw, f"Pulumi.{stack}.yaml", catalogue)


def _value(text: str) -> Any:
    """Objects and lists arrive as JSON; a plain text stays what it is."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
