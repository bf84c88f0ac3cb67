"""Names of Services, as hosts files: the lab has no DNS server, and needs none.

Each namespace has a file of its own, because a Service's bare name means the caller's namespace.
Files are rewritten in place: containers have them mounted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]
_DOMAIN = "cluster.local"


class HostsFiles:
    """The hosts files of all namespaces, and the node's own."""

    def __init__(self, directory: Path, base: str) -> None:
        """`base` are the lines that every file begins with."""
        self._directory = directory
        self._base = base if base.endswith("\n") else f"{base}\n"
        self._records: list[tuple[str, str, str]] = []
        self._written: dict[Path, str] = {}
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)

    def of(self, namespace: str) -> Path:
        """The hosts file for pods of a namespace."""
        path = self._directory / namespace
        with self._lock:
            if path not in self._written:
                self._write(path, namespace)
        return path

    def update(self, services: Iterable[Object], slices: Iterable[Object]) -> None:
        """Name all Services, cluster IP or, for headless ones, endpoints."""
        records = sorted(_records(services, slices))
        with self._lock:
            if records == self._records and self._written:
                return
            self._records = records
            self._write(Path("/etc/hosts"), None)
            for path in [path for path in self._written if path.parent == self._directory]:
                self._write(path, path.name)

    def _write(self, path: Path, namespace: str | None) -> None:
        lines = [self._base]
        for name, home, address in self._records:
            names = [f"{name}.{home}.svc.{_DOMAIN}", f"{name}.{home}.svc", f"{name}.{home}"]
            lines.append(" ".join([address, *names, *([name] if home == namespace else [])]) + "\n")
        text = "".join(lines)
        if self._written.get(path) != text:
            with path.open("w") as file:
                file.write(text)
            path.chmod(0o644)
            self._written[path] = text


def _records(
    services: Iterable[Object], slices: Iterable[Object]
) -> Iterable[tuple[str, str, str]]:
    headless = set()
    for service in services:
        metadata, address = service["metadata"], service["spec"].get("clusterIP")
        if address == "None":
            headless.add((metadata["name"], metadata["namespace"]))
        elif address:
            yield metadata["name"], metadata["namespace"], address
    for piece in slices:
        metadata = piece["metadata"]
        name = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        if (name, metadata["namespace"]) in headless:
            for endpoint in piece.get("endpoints") or ():
                for address in endpoint["addresses"]:
                    yield name, metadata["namespace"], address
