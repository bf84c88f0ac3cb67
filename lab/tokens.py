"""Token issuers of a lab: their keys, their key sets, and the tokens they sign."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from model.settings import Issuer

ALGORITHM = "RS256"


@dataclass(frozen=True)
class Issuers:
    """Keys of all issuers, kept in a directory that only the lab's owner can read."""

    directory: Path

    def ensure(self, issuers: Sequence[Issuer]) -> None:
        """Make a key for each issuer that has none."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, _ in enumerate(issuers):
            path = self._path(number)
            if not path.exists():
                key = RSAKey.generate_key(2048, {"kid": f"lab-{number}", "use": "sig"})
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    json.dump(key.as_dict(private=True), file)

    def key(self, number: int) -> RSAKey:
        """The private key of an issuer, by its place in the stack's list."""
        path = self._path(number)
        return _imported(path, path.stat().st_mtime_ns)

    def key_sets(self, issuers: Sequence[Issuer]) -> dict[str, str]:
        """The key set of each issuer by the path of its `jwksUri`, slashes as underscores."""
        sets: dict[str, Any] = {}
        for number, issuer in enumerate(issuers):
            name = urlsplit(issuer.jwks_uri).path.strip("/").replace("/", "_")
            public = {**self.key(number).as_dict(private=False), "alg": ALGORITHM}
            sets.setdefault(name, {"keys": []})["keys"].append(public)
        return {name: json.dumps(content) for name, content in sets.items()}

    def _path(self, number: int) -> Path:
        return self.directory / f"issuer-{number}.json"


@functools.cache
def _imported(path: Path, _: int) -> RSAKey:
    # Importing proves the key's primes, which takes longer than a thousand signatures.
    return RSAKey.import_key(json.loads(path.read_text()))


def sign(
    key: RSAKey, claims: Mapping[str, Any], *, lifetime: float = 3600, algorithm: str = ALGORITHM
) -> str:
    """A token with these claims; `iat` and `exp` are added unless they are given or None."""
    now = int(time.time())
    complete = {"iat": now, "exp": now + int(lifetime), **claims}
    kept = {name: value for name, value in complete.items() if value is not None}
    header = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
    return jwt.encode(header, kept, key, algorithms=[algorithm])
