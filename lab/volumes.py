"""A pod's volumes as directories of this machine: Secrets, ConfigMaps, tokens, labels, scratch."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightkube import ApiError, Client
from lightkube.models.authentication_v1 import BoundObjectReference, TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Secret, ServiceAccountToken

Object = Mapping[str, Any]

_UNSUPPORTED = "hostPath, persistent volumes and drivers have no meaning without a node"


class NotYetError(Exception):
    """Something the pod needs does not exist yet; the message names it."""


class Volumes:
    """The volumes of one pod below one directory."""

    def __init__(self, client: Client, pod: Object, directory: Path) -> None:
        self._client = client
        self._pod = pod
        self._directory = directory
        self._renewals: dict[str, float] = {}

    def path(self, name: str) -> Path:
        """Where a volume is."""
        return self._directory / name

    def make(self) -> None:
        """Make every volume of the pod.

        Raises:
            NotYetError: a ConfigMap or Secret is missing that is not optional.
        """
        for volume in self._pod["spec"].get("volumes") or ():
            self._make(volume)

    def renew(self) -> None:
        """Replace tokens that have used up four fifths of their time."""
        for volume in self._pod["spec"].get("volumes") or ():
            if self._renewals.get(volume["name"], float("inf")) < time.time():
                self._make(volume)

    def _make(self, volume: Object) -> None:
        directory = self.path(volume["name"])
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777 if "emptyDir" in volume else 0o755)
        if "emptyDir" in volume:
            return
        for path, content in self._files(volume):
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            written = target.with_name(f".{target.name}.new")
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            written.rename(target)

    def _files(self, volume: Object) -> Iterator[tuple[str, bytes]]:
        if "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                yield from self._source(source, volume["name"])
        else:
            yield from self._source(volume, volume["name"])

    def _source(self, source: Object, volume: str) -> Iterator[tuple[str, bytes]]:
        if found := source.get("configMap"):
            yield from _selected(self.config_map(found["name"], found.get("optional")), found)
        elif found := source.get("secret"):
            name = found.get("secretName") or found["name"]
            yield from _selected(self.secret(name, found.get("optional")), found)
        elif found := source.get("downwardAPI"):
            for item in found.get("items") or ():
                yield item["path"], field(self._pod, item["fieldRef"]["fieldPath"]).encode()
        elif found := source.get("serviceAccountToken"):
            seconds = found.get("expirationSeconds") or 3600
            yield found["path"], self._token(found.get("audience"), seconds)
            self._renewals[volume] = time.time() + 0.8 * seconds
        else:
            kinds = ", ".join(key for key in source if key != "name")
            raise ValueError(f"volume {volume}: {kinds} is not served ({_UNSUPPORTED})")

    def _token(self, audience: str | None, seconds: int) -> bytes:
        metadata = self._pod["metadata"]
        answer = self._client.create(
            ServiceAccountToken(
                metadata=ObjectMeta(),
                spec=TokenRequestSpec(
                    audiences=[audience] if audience else [],
                    expirationSeconds=seconds,
                    boundObjectRef=BoundObjectReference(
                        apiVersion="v1", kind="Pod", name=metadata["name"], uid=metadata["uid"]
                    ),
                ),
            ),
            self._pod["spec"].get("serviceAccountName") or "default",
            namespace=metadata["namespace"],
        )
        if answer.status is None or not answer.status.token:
            raise NotYetError("the API server issued no token")
        return answer.status.token.encode()

    def config_map(self, name: str, optional: bool | None) -> dict[str, bytes]:
        """The data of a ConfigMap; nothing where it is optional and missing."""
        found = self._get(ConfigMap, name, optional)
        if found is None:
            return {}
        text = {key: value.encode() for key, value in (found.data or {}).items()}
        binary = {
            key: base64.b64decode(value)
            for key, value in (getattr(found, "binaryData", None) or {}).items()
        }
        return text | binary

    def secret(self, name: str, optional: bool | None) -> dict[str, bytes]:
        """The data of a Secret; nothing where it is optional and missing."""
        found = self._get(Secret, name, optional)
        data = {} if found is None else found.data or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def _get(self, kind: Any, name: str, optional: bool | None) -> Any:
        try:
            return self._client.get(kind, name, namespace=self._pod["metadata"]["namespace"])
        except ApiError as error:
            if error.status.code != 404:
                raise
            if optional:
                return None
            raise NotYetError(f"{kind.__name__} {name} does not exist yet") from None


def _selected(data: Mapping[str, bytes], source: Object) -> Iterator[tuple[str, bytes]]:
    items = source.get("items")
    if items is None:
        yield from data.items()
        return
    for item in items:
        if item["key"] in data:
            yield item["path"], data[item["key"]]
        elif not source.get("optional"):
            raise NotYetError(f"key {item['key']} is not there yet")


_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


def field(pod: Object, path: str) -> str:
    """A field of the pod as the downward API gives it.

    Raises:
        ValueError: the downward API has no such field.
    """
    if found := _SUBSCRIPT.match(path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = pod["metadata"].get(path.rsplit(".", 1)[1]) or {}
        return "".join(f'{key}="{_quoted(value)}"\n' for key, value in sorted(values.items()))
    room, _, key = path.partition(".")
    if (room, key) not in _FIELDS:
        raise ValueError(f"the downward API has no field {path!r}")
    return str(pod.get(room, {}).get(key) or "")


_FIELDS = {
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "uid"),
    ("spec", "nodeName"),
    ("spec", "serviceAccountName"),
    ("status", "hostIP"),
    ("status", "podIP"),
}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
