"""The difference as JSON, for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from diff.changes import Diff


def as_json(diff: Diff) -> str:
    """One JSON object: changed, weaker, unjudged, notes, sections, counts, objects; keys never renamed."""
    data: dict[str, Any] = {
        "changed": not diff.empty,
        "weaker": diff.weaker,
        "unjudged": list(diff.unjudged),
        "notes": list(diff.notes),
        "sections": [asdict(section) for section in diff.sections],
        "counts": [asdict(count) for count in diff.counts],
        "objects": [asdict(change) for change in diff.objects],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
