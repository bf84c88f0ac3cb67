"""A contract: one promise of the documentation, the requests that try it, and what must come back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from lab.data_plane import DataPlane
from lab.exchange import Reply, Request

GATEWAY = "gateway"
"""Address of a request to one gateway instance; `gateway:1` is the second one."""
BALANCED = "balanced"
"""Address of a request to whichever gateway instance the network picks for its connection: one
that is ready, as the kubelet's probe of the gateway's readiness port last found."""


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    kind: Literal["client", "service", "plain", "identity"]
    """`client`: outside, through the load balancer. `service`: from a service's pod, through its
    proxy. `plain`: a pod of the cluster without a proxy. `identity`: the same, speaking mutual TLS
    itself with a certificate made for the test."""
    name: str = ""
    """The service's name; for `identity` the SPIFFE id in the certificate."""
    authority: Literal["mesh", "foreign"] = "mesh"
    """Who signed an `identity`'s certificate."""

    def __str__(self) -> str:
        made = " signed by another CA" if self.authority == "foreign" else ""
        return {"client": "a client", "plain": "a pod without identity"}.get(
            self.kind, f"{self.name}{made}"
        )


CLIENT = Caller("client")
PLAIN = Caller("plain")


def service(name: str) -> Caller:
    """A service, through its own proxy."""
    return Caller("service", name)


_NOBODY = re.compile(
    r"Timeout|timed out|Open: |gaierror|\[Errno -|Name or service not known"
    r"|Temporary failure in name resolution|No route to host|unreachable"
)
"""In a client's error: nobody refused anything. The name was not found, the way there neither, or
the time was over."""


@dataclass(frozen=True)
class Expect:
    """What must come back; what is left out may be anything."""

    status: tuple[int, ...]
    """Statuses that are right; 0 is no answer: the connection is refused, closed or reset. A call
    that nobody answered in its time, or whose name or network is unknown, proves no refusal."""
    served_by: str = ""
    """The service whose pod must have answered."""
    version: str = ""
    """The service's version, as its subset says."""
    headers: tuple[tuple[str, str | None], ...] = ()
    """Response headers by name: the value, or None where the header must not be there."""
    seen: tuple[tuple[str, str | None], ...] = ()
    """Request headers as the service must have seen them; None where it must not."""
    path: str = ""
    """The path as the service must have seen it."""
    grpc: str = ""
    """Status of a gRPC call, like `PERMISSION_DENIED`; several are separated by bars."""
    protocol: str = ""
    within: float = 0.0
    """Seconds the answer may take at most."""
    given_up: bool = False
    """True where no answer may also be a client's own end of patience: others look at what it got."""

    def unmet(self, reply: Reply) -> str | None:
        """What is wrong with a reply; None where nothing is."""
        if reply.status not in self.status:
            return f"expected {self}, got {reply}"
        if not reply.status and not self.given_up and _NOBODY.search(reply.error):
            return f"expected {self}: refused, closed or reset; got {reply}"
        if self.grpc and reply.status and reply.grpc_status not in self.grpc.split("|"):
            return f"expected gRPC status {self.grpc}, got {reply}"
        found = [
            (self.version, reply.echoed("ServiceVersion"), "version"),
            (self.path, reply.echoed("URL"), "path seen by the service"),
            (self.protocol, reply.protocol, "protocol"),
        ]
        for wanted, got, what in found:
            if wanted and wanted != got:
                return f"expected {what} {wanted}, got {got}"
        if self.served_by and not reply.served_by.startswith(f"{self.served_by}-"):
            return f"expected an answer of {self.served_by}, got {reply}"
        for name, value in self.headers:
            if reply.header(name) != value:
                return f"expected response header {name}: {value}, got {reply.header(name)}"
        for name, value in self.seen:
            if reply.seen(name) != ([] if value is None else [value]):
                return f"the service must see {name}: {value}, it saw {reply.seen(name)}"
        if self.within and reply.seconds > self.within:
            return f"expected an answer within {self.within:g} s, it took {reply.seconds:.2f} s"
        return None

    def __str__(self) -> str:
        statuses = " or ".join(str(status) if status else "no answer" for status in self.status)
        by = f" from {self.served_by}" if self.served_by else ""
        return statuses + (f" {self.grpc}" if self.grpc else "") + by


REFUSED = Expect((0,))
"""No connection, or one that ends without an answer."""
DENIED = Expect((403,))
UNAUTHENTICATED = Expect((401,))
"""A token is presented that is not believed."""
NOT_REACHED = Expect((0, 403, 404, 502))
"""Kept from the service by some proxy, its own or the caller's."""


@dataclass(frozen=True)
class Call:
    """One request and what must come of it.

    The request's address is `gateway`, `balanced`, `service:NAME:PORT` (the name, as callers use
    it), or `pod:NAME:PORT` (an instance itself).
    """

    caller: Caller
    request: Request
    expect: Expect
    after: float = 0.0
    """Seconds after the first call at which this one is sent, where calls are sent at once."""

    def __str__(self) -> str:
        request = self.request
        return f"{self.caller}: {request.method} {request.authority}{request.path}"


Judge = Callable[[Sequence[Reply]], str | None]
"""Looks at all replies together; None where the promise holds, else what is wrong."""


def both(*judges: Judge) -> Judge:
    """What is wrong for any of several judges."""

    def judge(replies: Sequence[Reply]) -> str | None:
        return next((wrong for one in judges if (wrong := one(replies))), None)

    return judge


Line = Mapping[str, Any]
"""One line of a proxy's log, access or audit (`log` says which), with the pod's name as `proxy`."""


@dataclass(frozen=True)
class Recorded:
    """What the mesh wrote about the calls of a contract."""

    lines: Sequence[Sequence[Line]]
    """For each call the log lines of all proxies it passed."""
    spans: Sequence[Mapping[str, Any]]
    """All spans that the collector got since the run began."""


Watch = Callable[[Sequence[Reply], Recorded], str | None]
"""Looks at what was written down; None where the promise holds, else what is wrong."""


def both_watched(*watches: Watch) -> Watch:
    """What is wrong for any of several watches."""

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        return next((wrong for one in watches if (wrong := one(replies, recorded))), None)

    return watch


@dataclass(frozen=True)
class Bounded:
    """A watch that minds also what is too much: a line, a span, a share that is too great.

    What comes late can only add to it, so a first right look says nothing of that: the runner looks
    again when as much time has passed once more as lines and spans take.
    """

    watch: Watch

    def __call__(self, replies: Sequence[Reply], recorded: Recorded) -> str | None:
        """What is wrong at this look."""
        return self.watch(replies, recorded)


Inspection = Callable[[DataPlane], str | None]
"""Looks at configuration that istiod pushes; None where the promise holds, else what is wrong."""
PUSHED = "pushed config"
"""What a report says came back where configuration was looked at and nothing was sent."""


Arrangement = Callable[[DataPlane], AbstractContextManager[None]]
"""Brings the mesh into a state that a promise speaks of (more instances, a server that is down) and
back. It returns when the state is reached, and ends when the mesh is as before."""


@dataclass(frozen=True)
class Incident:
    """Something that happens to the mesh while calls are sent."""

    state: Arrangement
    """What it brings about, and how the mesh is made as before when the calls are answered."""
    begins: float
    """Seconds after the first call."""
    ends: float | None = None
    """Seconds after the first call; None where it lasts until every call is answered."""


@dataclass(frozen=True)
class Tolerance:
    """Calls of which some may fail, and a report says how many did."""

    what: str
    """What they are, as the report names them: `writes`."""
    calls: range
    """Their places among the contract's calls."""
    errors: int
    """How many may have come to something else than expected."""
    to: tuple[Expect, ...] = ()
    """What those may have come to: what the document says of them. Anything else is not forgiven."""
    least: int = 0
    """How many must have: where fewer did, nothing was away."""


@dataclass(frozen=True)
class Contract:
    """One promise and its proof."""

    id: str
    """Family and name: `jwt.expired`."""
    sentence: str
    """The sentence of the documentation, word for word."""
    document: str
    """Its file below docs/."""
    calls: tuple[Call, ...]
    judge: Judge | None = None
    at_once: bool = True
    """False where each call must wait for the answer of the one before."""
    patient: bool = False
    """True where the calls are few and the answers late, so that others may run meanwhile."""
    safe: bool = False
    """True where the calls that only read may be sent to a live cluster: by a client without a token,
    and judged by nothing that only the lab's echo server answers."""
    pause: float = 0.0
    """Seconds to wait before the first call, for limits of an earlier contract to refill."""
    watch: Watch | None = None
    settle: float = 1.5
    """Seconds until proxies have written their logs and sent their spans."""
    clear_of_minute: float = 0.0
    """Seconds that must be left of the clock's minute, for limits counted by it."""
    arrangement: Arrangement | None = None
    """The state in which the promise is tried. Contracts that stand together and name the same one
    share it."""
    incident: Incident | None = None
    tolerated: tuple[Tolerance, ...] = ()
    """Calls that are in none of them may not fail."""
    pushed: Inspection | None = None
    """A look at configuration in the place of calls: for what upstream Envoy can't carry out, and for
    what takes too many requests or too long to try on every route."""

    def __post_init__(self) -> None:
        """Refuse what the runner could not do.

        Raises:
            ValueError: an incident happens at its time after the first call, and calls that wait for
                each other have none.
        """
        if self.incident and not self.at_once:
            raise ValueError(f"{self.id}: an incident needs calls that are sent at once")

    @property
    def family(self) -> str:
        """The part of the id before the first dot."""
        return self.id.split(".", 1)[0]
