"""kubectl, the client behind server-side apply: found beside Python, or on PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import (
    RetryError,
    Retrying,
    retry,
    retry_if_exception,
    retry_if_result,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from components.objects import Manifest, reference

_FIELD_MANAGER = "voicemesh"


class ClusterError(Exception):
    """The cluster can't be reached, or refused something. The text is what kubectl said."""

    @property
    def lost(self) -> bool:
        """True where the cluster may be back in a moment, false where it refused."""
        return bool(_LOST.search(str(self)))


_LOST = re.compile(
    r"connection refused|connection reset|EOF|etcdserver|failed calling webhook|i/o timeout"
    r"|TLS handshake timeout|InternalError|ServiceUnavailable|the server is currently unable",
    re.IGNORECASE,
)
"""What kubectl says when the API server, or a webhook behind it, is away for a moment."""

_again_while_lost = retry(
    retry=retry_if_exception(lambda error: isinstance(error, ClusterError) and error.lost),
    stop=stop_after_delay(15),
    wait=wait_exponential(multiplier=0.5, max=4),
    reraise=True,
)
"""Repeats a command for up to 15 s while the cluster is lost: apply and get are safe to repeat."""


@dataclass(frozen=True)
class Resource:
    """One kind that the API server knows."""

    name: str
    """Plural and group, as kubectl takes it: `virtualservices.networking.istio.io`."""
    namespaced: bool


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster.

    With neither kubeconfig nor context, kubectl chooses as it always does (KUBECONFIG, then
    ~/.kube/config and its current context).
    """

    kubeconfig: Path | None = None
    context: str | None = None

    @_again_while_lost
    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Standard output of one kubectl command.

        Raises:
            ClusterError: the command failed or took longer than `timeout` seconds.
        """
        command = self._command(arguments)
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"no answer to kubectl {arguments[0]} in {timeout:g} s") from None
        if done.returncode:
            raise ClusterError(_without_noise(done.stderr) or f"exit code {done.returncode}")
        return done.stdout

    def stream(
        self,
        *arguments: str,
        stdin: str,
        on_line: Callable[[str], None],
        environment: dict[str, str],
    ) -> None:
        """Runs one command and hands on each line it prints, as it prints it.

        Raises:
            ClusterError: the command failed; lines before that were handed on.
        """
        process = subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            process.stdin.write(stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass  # kubectl refused before it had read all; it says why on stderr
        for line in process.stdout:
            on_line(line.rstrip())
        errors = process.stderr.read()
        if process.wait():
            raise ClusterError(_without_noise(errors) or f"exit code {process.returncode}")

    def resources(self) -> dict[tuple[str, str], Resource]:
        """Every kind the API server knows and can list, by (apiVersion, kind)."""
        found = {}
        for line in self.run("api-resources", "--no-headers", "--verbs=list,delete").splitlines():
            plural, *_, version, namespaced, kind = line.split()
            group = version.rpartition("/")[0]
            name = f"{plural}.{group}" if group else plural
            found[version, kind] = Resource(name, namespaced == "true")
        return found

    def labelled(self, resources: Iterable[Resource], selector: str) -> list[Manifest]:
        """All objects of these kinds, in any namespace, that the label selector matches."""
        names = ",".join(sorted({resource.name for resource in resources}))
        if not names:
            return []
        answer = self.run("get", names, "--all-namespaces", "--selector", selector, "-o", "json")
        items: list[Manifest] = json.loads(answer)["items"]
        return items

    def dry_run(self, objects: Sequence[Manifest]) -> list[Manifest]:
        """The objects as they would stand after a server-side apply; admission included."""
        if not objects:
            return []
        answer = json.loads(
            self.run(
                "apply",
                "--server-side",
                "--force-conflicts",
                f"--field-manager={_FIELD_MANAGER}",
                "--dry-run=server",
                "-o",
                "json",
                "-f",
                "-",
                stdin=as_list(objects),
            )
        )
        items: list[Manifest] = answer["items"] if answer["kind"] == "List" else [answer]
        return items

    def apply(self, objects: Sequence[Manifest], manager: str = _FIELD_MANAGER) -> None:
        """Server-side apply, one after the other in this order, without pruning."""
        if objects:
            self.run(
                "apply",
                "--server-side",
                "--force-conflicts",
                f"--field-manager={manager}",
                "-f",
                "-",
                stdin=as_list(objects),
            )

    def delete(self, resources: Collection[Resource], selector: str, within: float) -> None:
        """Deletes all objects of these kinds that the label selector matches, and waits for that.

        kubectl itself would wait for one after the other, asking five times a second.

        Raises:
            ClusterError: some are still there after `within` seconds.
        """
        self.run(
            "delete",
            ",".join(sorted(resource.name for resource in resources)),
            *(["--all-namespaces"] if any(resource.namespaced for resource in resources) else []),
            f"--selector={selector}",
            "--ignore-not-found",
            "--wait=false",
        )
        gone = Retrying(
            retry=retry_if_result(bool), stop=stop_after_delay(within), wait=wait_fixed(0.5)
        )
        try:
            gone(self.labelled, resources, selector)
        except RetryError as error:
            left = ", ".join(map(reference, error.last_attempt.result()))
            raise ClusterError(f"still there {within:g} s after their deletion: {left}") from None

    def existing(self, objects: Sequence[Manifest]) -> list[Manifest]:
        """Those of the objects that the cluster has, as they stand there."""
        if not objects:
            return []
        answer = self.run(
            "get", "--ignore-not-found", "-o", "json", "-f", "-", stdin=as_list(objects)
        )
        found = json.loads(answer) if answer.strip() else {"items": []}
        existing: list[Manifest] = found.get("items", [found])
        return existing

    def replace(self, objects: Sequence[Manifest]) -> None:
        """Puts the objects in the place of the live ones, whoever wrote what is in those."""
        if objects:
            self.run(
                *("replace", f"--field-manager={_FIELD_MANAGER}", "-f", "-"),
                stdin=as_list(objects),
            )

    @_again_while_lost
    def apply_each(
        self,
        objects: Sequence[Manifest],
        on_line: Callable[[str], None],
        on_begin: Callable[[], None],
        *more: str,
    ) -> None:
        """Server-side apply that hands on what kubectl says of each object, when it says it.

        `on_begin` is called before the first object, and again where all are sent once more because
        the cluster was lost.
        """
        on_begin()
        self.stream(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={_FIELD_MANAGER}",
            *more,
            "-f",
            "-",
            stdin=as_list(objects),
            on_line=on_line,
            environment={"KUBECTL_APPLYSET": "true"},
        )

    def apply_set(
        self,
        objects: Sequence[Manifest],
        parent: str,
        on_line: Callable[[str], None],
        on_begin: Callable[[], None],
    ) -> None:
        """Server-side apply of a whole set, then removal of its members that are not in it."""
        self.apply_each(objects, on_line, on_begin, "--prune", f"--applyset={parent}")

    def _command(self, arguments: Sequence[str]) -> list[str]:
        target = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        target += [f"--context={self.context}"] if self.context else []
        return [executable(), *arguments, *target]


def executable() -> str:
    """Path of kubectl: the pinned one of this environment before any other.

    Raises:
        ClusterError: there is none.
    """
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if not found:
        raise ClusterError("kubectl is missing: run `make setup`")
    return found


def as_list(objects: Sequence[Manifest]) -> str:
    """The objects as one JSON document that kubectl reads."""
    content: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(content)


def _without_noise(stderr: str) -> str:
    """What went wrong, each thing once: a lost server is told of for every object."""
    lines = [
        line.removeprefix("error: ")
        for line in stderr.splitlines()
        if line and not _NOISE.match(line)
    ]
    return "\n".join(dict.fromkeys(lines))


_NOISE = re.compile(r"Warning:|[IW]\d{4} ")
"""kubectl's warnings, and its log lines below errors."""
