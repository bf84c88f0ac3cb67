"""kubeconfig files: one per identity, complete in themselves, readable by their owner only."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import yaml

from lab.control_plane.certificates import Certificates

_NAME = "voicemesh-lab"


def text(certificates: Certificates, identity: str, server: str) -> str:
    """The kubeconfig of `identity` for the API server at the URL `server`."""

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    cluster = {
        "server": server,
        "certificate-authority-data": encoded(certificates.certificate("ca")),
    }
    user = {
        "client-certificate-data": encoded(certificates.certificate(identity)),
        "client-key-data": encoded(certificates.key(identity)),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": _NAME,
        "clusters": [{"name": _NAME, "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": identity}}],
    }
    return str(yaml.safe_dump(config, sort_keys=False))


def write(path: Path, content: str) -> None:
    """Write a kubeconfig with mode 0600, whole or not at all; nothing if it is there already."""
    if path.exists() and path.read_text() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(content)
    new.rename(path)
