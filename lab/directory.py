"""Where a lab keeps its state: one directory, so that several labs can run side by side."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

DEFAULT = Path(__file__).parent.parent / ".voicemesh" / "lab"
"""The lab of this clone."""

_LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket."""


@dataclass(frozen=True)
class LabDirectory:
    """The directory of one lab; it also names the lab: processes carry it in their environment."""

    path: Path

    @classmethod
    def at(cls, path: Path = DEFAULT) -> LabDirectory:
        """The lab in `path`, which need not exist yet."""
        directory = cls(path.absolute())
        if len(os.fsencode(directory.socket("controller-manager"))) > _LONGEST_SOCKET:
            raise LabError(f"{path}: too long for a lab, its sockets' paths must fit 107 bytes")
        return directory

    def create(self) -> None:
        """Make the directory and its subdirectories, readable by their owner only."""
        for directory in (self.path, self.logs, self.sockets, self.kubeconfigs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def logs(self) -> Path:
        """One file per part."""
        return self.path / "logs"

    @property
    def sockets(self) -> Path:
        """Unix sockets by which the host reaches ports inside the node."""
        return self.path / "sockets"

    @property
    def kubeconfigs(self) -> Path:
        """One per identity, mode 0600."""
        return self.path / "kubeconfigs"

    @property
    def certificates(self) -> Path:
        """CA, API server, clients, service account keys."""
        return self.path / "certificates"

    @property
    def data(self) -> Path:
        """etcd's."""
        return self.path / "etcd"

    @property
    def pods(self) -> Path:
        """The kubelet's: volumes, logs and records of its pods."""
        return self.path / "pods"

    @property
    def ports(self) -> Path:
        """Host ports that were chosen for this lab, as JSON."""
        return self.path / "ports.json"

    def log(self, part: str) -> Path:
        """The log of a part."""
        return self.logs / f"{part}.log"

    def socket(self, name: str) -> Path:
        """The Unix socket called `name`."""
        return self.sockets / f"{name}.sock"

    def work(self, part: str) -> Path:
        """The working directory of a part; made here."""
        directory = self.path / "work" / part
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes the lab."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(
                    f"another command is starting or stopping the lab in {self.path}; "
                    "wait for it to end"
                ) from None
            yield

    def discard_data(self) -> None:
        """Forget the cluster: what etcd stored, keys and certificates, pods, working directories."""
        for directory in (
            *(self.data, self.certificates, self.kubeconfigs, self.sockets, self.pods),
            self.path / "work",
        ):
            shutil.rmtree(directory, ignore_errors=True)
