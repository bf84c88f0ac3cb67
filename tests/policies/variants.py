"""Which policies report an object that is added to a small mesh; for tables of variants."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from manifests import read
from policies.run import check

SOUND = Path(__file__).parent / "testdata" / "sound.yaml"


def reported(added: str | Iterable[dict[str, Any]]) -> set[str]:
    """Policies that report something once the objects are in the sound mesh."""
    items = yaml.safe_load_all(added) if isinstance(added, str) else added
    return {v.policy_id for v in check([*read([SOUND]), *items])}
