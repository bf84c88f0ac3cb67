"""Ports of the node on the host's loopback, and Unix sockets for the lab's owner."""

from __future__ import annotations

import errno
import json
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.node.forwarder import UNIX
from lab.node.parts import Part, Parts


@dataclass(frozen=True)
class Exposure:
    """The forwarders of one lab."""

    parts: Parts

    def expose(
        self,
        name: str,
        tcp: Mapping[str, str],
        unix: Mapping[Path, str] | None = None,
    ) -> dict[str, int]:
        """Start the forwarder `name` unless it runs; the host port of each name in `tcp`.

        Targets are `HOST:PORT` as seen from inside the node; `tcp` has one for each name, `unix`
        for each socket's path. Host ports are free ones, chosen once and then kept as long as
        nobody else takes them.
        """
        part = Part(
            name,
            (
                *(sys.executable, "-m", "lab.node.forwarder"),
                *(f"{item}={target}" for item, target in tcp.items()),
                *(f"{UNIX}{path}={target}" for path, target in (unix or {}).items()),
            ),
        )
        known = self._known()
        keys = {item: f"{name}/{item}" for item in tcp}
        if self.parts.find(part) and all(key in known for key in keys.values()):
            return {item: known[key] for item, key in keys.items()}
        self.parts.stop(name)
        sockets = {item: _listening(known.get(key)) for item, key in keys.items()}
        try:
            chosen = {item: one.getsockname()[1] for item, one in sockets.items()}
            # Before the start: a port that is in use must not be unknown.
            self._remember({keys[item]: port for item, port in chosen.items()})
            self.parts.start(part, sockets)
        finally:
            for one in sockets.values():
                one.close()
        return chosen

    def _known(self) -> dict[str, int]:
        path = self.parts.directory.ports
        if not path.exists():
            return {}
        known: dict[str, int] = json.loads(path.read_text())
        return known

    def _remember(self, ports: Mapping[str, int]) -> None:
        path = self.parts.directory.ports
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self._known() | dict(ports), indent=2, sort_keys=True))
        new.replace(path)


def _listening(port: int | None) -> socket.socket:
    """A listening socket on the loopback: on `port` if that is still free, else on any."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port or 0))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        listening.bind(("127.0.0.1", 0))
    listening.listen(256)
    return listening
