"""What stands in for each container image: the same program, built or installed on this machine.

The lab has no registry and no container runtime. An image is known by the last part of its name;
its tag is not looked at, for the programs' versions are the toolchain's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class UnknownImageError(Exception):
    """The lab has nothing to run for an image; the message lists what it has."""


@dataclass(frozen=True)
class Image:
    """A program in the place of a container image."""

    entrypoint: tuple[str, ...]
    files: Mapping[str, Path]
    """Files and directories of this machine by their path inside the container."""
    user: int = 0
    """The user it runs as where the pod names none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Programs that the image has in a directory which is this machine's own here."""


@dataclass(frozen=True)
class Binaries:
    """Where the programs are on this machine."""

    pilot_agent: Path
    envoy: Path
    bootstrap: Path
    """Istio's template of Envoy's bootstrap."""
    echo_server: Path
    ratelimit: Path
    redis_server: Path


def table(binaries: Binaries) -> dict[str, Image]:
    """All images of the lab by the last part of their name."""
    return {
        "proxyv2": Image(
            entrypoint=("/usr/local/bin/pilot-agent",),
            files={
                "/usr/local/bin/pilot-agent": binaries.pilot_agent,
                "/usr/local/bin/envoy": binaries.envoy,
                "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": binaries.bootstrap,
            },
            user=1337,
        ),
        "app": Image(
            entrypoint=("/usr/local/bin/server",),
            files={"/usr/local/bin/server": binaries.echo_server},
            user=1338,
        ),
        "ratelimit": Image(
            entrypoint=("/usr/local/bin/ratelimit",),
            elsewhere={"/bin/ratelimit": "/usr/local/bin/ratelimit"},
            files={"/usr/local/bin/ratelimit": binaries.ratelimit},
        ),
        "redis": Image(
            entrypoint=(),
            files={"/usr/local/bin/redis-server": binaries.redis_server},
            user=999,
        ),
        # The lab's own servers, in Python: they need the interpreter and this project.
        "voicemesh-lab": Image(
            entrypoint=(sys.executable, "-m"),
            files=_python(),
            user=1338,
            environment={
                "PYTHONPATH": str(_ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
            },
        ),
    }


_ROOT = Path(__file__).resolve().parent.parent


def _python() -> dict[str, Path]:
    places = {sys.prefix, sys.base_prefix, str(_ROOT)}
    return {
        place: Path(place)
        for place in sorted(places, key=len)
        if (not place.startswith("/usr") or place.startswith("/usr/local"))
        and not any(place.startswith(f"{o}/") for o in places)
    }


def find(images: Mapping[str, Image], name: str) -> Image:
    """The image of a container.

    Raises:
        UnknownImageError: the lab has no program for it.
    """
    short = name.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    try:
        return images[short]
    except KeyError:
        raise UnknownImageError(
            f"no program for image {name!r}; the lab has {', '.join(sorted(images))}"
        ) from None
