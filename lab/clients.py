"""The host's end of the lab's clients: batches of requests from any pod, answered together."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self

from lab.errors import LabError
from lab.exchange import Reply, Request
from lab.lab import Lab


class Clients:
    """One `lab.client` process inside the node; a context manager."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Reply]] = {}
        self._writing = threading.Lock()

    def __enter__(self) -> Self:
        log = self._lab.directory.log("client").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._lab.node.entered([sys.executable, "-m", "lab.client"]),
                env=self._lab.node.environment({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def submit(self, pid: int, request: Request) -> Future[Reply]:
        """Send a request from the network namespace of a process of the node; from any thread."""
        assert self._process.stdin is not None
        number, future = next(self._numbers), Future[Reply]()
        self._waiting[number] = future
        line = {"id": number, "pid": pid, "request": dataclasses.asdict(request)}
        with self._writing:
            self._process.stdin.write(json.dumps(line) + "\n")
        return future

    def send(self, pid: int, requests: Sequence[Request]) -> list[Reply]:
        """Send requests at once and wait for all answers."""
        futures = [self.submit(pid, request) for request in requests]
        longest = max((request.timeout for request in requests), default=0)
        return [future.result(longest * 4 + 30) for future in futures]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(reply(answer["reply"]))
        for future in self._waiting.values():
            future.set_exception(LabError("the lab's client process ended; see logs/client.log"))


def reply(item: dict[str, Any]) -> Reply:
    """A reply as it was before it became JSON."""
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in item.items()
    }
    known["headers"] = tuple((name, value) for name, value in item["headers"])
    return Reply(**known)
