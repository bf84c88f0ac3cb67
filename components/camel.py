"""Base of typed data that Istio reads in camelCase but publishes no schema for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class CamelMessage(BaseModel):
    """Immutable; snake_case in Python, camelCase on the wire; a misspelt field is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
    )
