"""Kubernetes probes: HTTP, TCP, gRPC and commands, asked from the node."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

Object = Mapping[str, Any]
_SERVING = b"\x08\x01"


class Probe:
    """One probe of one container run: when it is due, and what it has found so far."""

    def __init__(
        self, spec: Object, address: str, ports: Sequence[Object], enter: Callable[[], list[str]]
    ) -> None:
        self._spec = spec
        self._address = address
        self._ports = {port["name"]: port["containerPort"] for port in ports if "name" in port}
        self._enter = enter
        self._due = time.monotonic() + spec.get("initialDelaySeconds", 0)
        self._streak = 0
        self.succeeded = False
        """True from the success threshold on, until the failure threshold."""
        self.failed = False
        """True from the failure threshold on, until the success threshold."""
        self.message = ""

    def tick(self, hurry: bool = False) -> bool:
        """Probe if it is due. True where the verdict changed.

        With `hurry` a probe that has not succeeded yet is asked at every tick: a lab's start is
        not made longer by a period meant for the long run.
        """
        now = time.monotonic()
        if now < self._due and not (hurry and not self.succeeded):
            return False
        self._due = now + self._spec.get("periodSeconds", 10)
        good, self.message = self._ask()
        if good != (self._streak > 0):
            self._streak = 0
        self._streak += 1 if good else -1
        before = (self.succeeded, self.failed)
        if good and self._streak >= self._spec.get("successThreshold", 1):
            self.succeeded, self.failed = True, False
        elif not good and -self._streak >= self._spec.get("failureThreshold", 3):
            self.succeeded, self.failed = False, True
        return before != (self.succeeded, self.failed)

    def _ask(self) -> tuple[bool, str]:
        timeout = self._spec.get("timeoutSeconds", 1)
        try:
            if found := self._spec.get("httpGet"):
                return self._http(found, timeout)
            if found := self._spec.get("tcpSocket"):
                address = (found.get("host") or self._address, self._port(found["port"]))
                with socket.create_connection(address, timeout):
                    return True, ""
            if found := self._spec.get("grpc"):
                return self._grpc(found, timeout)
            return self._command(self._spec["exec"]["command"], timeout)
        except (OSError, grpc.RpcError, subprocess.TimeoutExpired) as error:
            return False, str(error)

    def _http(self, action: Object, timeout: float) -> tuple[bool, str]:
        host = action.get("host") or self._address
        scheme = action.get("scheme", "HTTP").lower()
        url = f"{scheme}://{host}:{self._port(action['port'])}{action.get('path', '/')}"
        headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
        request = urllib.request.Request(  # noqa: S310 - the scheme is http or https
            url, headers={"User-Agent": "kube-probe/1.37", "Connection": "close", **headers}
        )
        try:
            with _DIRECT.open(request, timeout=timeout) as answer:
                return answer.status < 400, f"status {answer.status}"
        except urllib.error.HTTPError as error:
            return False, f"status {error.code}"

    def _grpc(self, action: Object, timeout: float) -> tuple[bool, str]:
        name = action.get("service", "").encode()
        question = b"\x0a" + bytes([len(name)]) + name if name else b""
        with grpc.insecure_channel(f"{self._address}:{self._port(action['port'])}") as channel:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/grpc.health.v1.Health/Check"
            )
            answer = check(question, timeout=timeout)
        return answer == _SERVING, f"health {answer!r}"

    def _command(self, command: Sequence[str], timeout: float) -> tuple[bool, str]:
        result = subprocess.run(
            [*self._enter(), *command], capture_output=True, timeout=timeout, check=False
        )
        return result.returncode == 0, result.stderr.decode(errors="replace")[-200:]

    def _port(self, port: int | str) -> int:
        return port if isinstance(port, int) else self._ports[port]


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
