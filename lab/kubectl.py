"""kubectl against a lab's API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.toolchain import binaries

MANAGER = "voicemesh-lab"
"""Field manager of what the lab itself applies."""

_APPLY = (
    *("apply", "--server-side", "--force-conflicts", "--validate=false"),
    f"--field-manager={MANAGER}",
)


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Standard output of `kubectl ARGUMENTS`. Raises LabError if it fails or takes too long."""
        program = binaries.ensure(["kubectl"])["kubectl"]
        called = " ".join(arguments[:3])
        try:
            done = subprocess.run(
                [str(program), f"--kubeconfig={self.kubeconfig}", *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"kubectl {called}: no answer within {timeout:g} s") from None
        if done.returncode != 0:
            raise LabError(f"kubectl {called}: {done.stderr.strip()[:2000]}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ARGUMENTS` as an object."""
        found: dict[str, Any] = json.loads(self.run("get", *arguments, "--output=json"))
        return found

    def apply_files(self, paths: Sequence[Path]) -> None:
        """Server-side apply of YAML files."""
        self.run(*_APPLY, *(f"--filename={path}" for path in paths))

    def apply(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Server-side apply, in the order given."""
        self.run(
            *_APPLY,
            "--filename=-",
            stdin="\n".join(json.dumps(manifest) for manifest in manifests),
        )
