"""Istio's charts as a release ships them, made from the source in the Go module."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.toolchain import cache
from lab.toolchain.go import pinned, source

RELEASE = "1.31.1"
"""The release the charts are stamped with; stacks pin the same (`controlPlane.version`)."""

HUB = "registry.istio.io/release"
"""Where the images of a release are, in place of the source tree's testing registry."""

_DIRECTORIES = {
    "base": "manifests/charts/base",
    "istiod": "manifests/charts/istio-control/istio-discovery",
    "gateway": "manifests/charts/gateway",
}


@dataclass(frozen=True)
class Charts:
    """Chart directories, usable with `helm template DIRECTORY`."""

    base: Path
    istiod: Path
    gateway: Path


def charts() -> Charts:
    """The three charts of the stack, stamped with `RELEASE`; made once, then from the cache."""
    version = pinned("istio", "istio.io/istio")
    stamp = Path(__file__).read_bytes()  # a change of what is done here makes new charts
    directory = cache.ensure(cache.key("charts", version, stamp), _make)
    return Charts(**{name: directory / name for name in _DIRECTORIES})


def _make(directory: Path) -> None:
    upstream = source("istio", "istio.io/istio")
    for name, path in _DIRECTORIES.items():
        chart = directory / name
        # Contents only: files of Go's module cache are read-only.
        shutil.copytree(upstream / path, chart, copy_function=shutil.copyfile)
        for folder in [chart, *(path for path in chart.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        metadata = chart / "Chart.yaml"
        metadata.write_text(stamped(metadata.read_text()))
        values = chart / "values.yaml"
        values.write_text(with_images(values.read_text()))


def stamped(chart_yaml: str) -> str:
    """Chart.yaml with version and appVersion of the release (the source tree says 1.0.0)."""
    return re.sub(r"^(version|appVersion): .*$", rf"\1: {RELEASE}", chart_yaml, flags=re.MULTILINE)


def with_images(values_yaml: str) -> str:
    """values.yaml with the release's registry and tag where the source tree has testing images."""
    hub = re.sub(r"^( +hub:) registry\.istio\.io/testing$", rf"\1 {HUB}", values_yaml, flags=re.M)
    return re.sub(r"^( +tag:) latest$", rf"\1 {RELEASE}", hub, flags=re.MULTILINE)
