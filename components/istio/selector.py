"""Wire types: what several kinds share from selector.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypeAliasType

from components.wire import Message

MatchLabelsValue = TypeAliasType(
    "MatchLabelsValue",
    Annotated[str, Field(max_length=63, pattern="^[^*]*$")],
)


class WorkloadSelector(Message):
    match_labels: Annotated[dict[str, MatchLabelsValue] | None, Field(alias="matchLabels")] = None


class PolicyTargetReference(Message):
    group: Annotated[
        str | None,
        Field(
            max_length=253,
            pattern="^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        ),
    ] = None
    kind: Annotated[
        str, Field(max_length=63, min_length=1, pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    name: Annotated[str, Field(max_length=253, min_length=1)]
    namespace: Annotated[str | None, Field(max_length=0)] = None
