"""Label selectors of Kubernetes.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes pods with these labels."""
    for each in selector.get("matchExpressions") or ():
        value, values = labels.get(str(each.get("key"))), each.get("values") or ()
        match each.get("operator"):
            case "In":
                holds = value in values
            case "NotIn":
                holds = value not in values
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
            case _:
                holds = False
        if not holds:
            return False
    return (selector.get("matchLabels") or {}).items() <= labels.items()
