"""Programs of the system that the lab calls; Debian's packages are installed where we may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from lab.toolchain.errors import ToolchainError
from lab.toolchain.progress import step

PACKAGES = {
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "setpriv": "util-linux",
    "sysctl": "procps",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Debian package of each program."""

INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
WATCHES = 1024

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def ensure(programs: Iterable[str] = tuple(PACKAGES)) -> None:
    """Make sure that the programs are on PATH.

    As root on a system with apt-get, missing packages are installed. Raises ToolchainError with
    the packages' names where that can't be done or doesn't help.
    """
    absent = missing(programs)
    if not absent:
        return
    packages = sorted({PACKAGES[program] for program in absent})
    wanted = f"missing: {', '.join(absent)} (Debian packages: {' '.join(packages)})"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolchainError(f"{wanted}; install them and try again")
    with step(f"installing {' '.join(packages)}"):
        # A fresh machine has no package lists; one with lists can save the download.
        tried = _apt("install", "--yes", "--no-install-recommends", *packages)
        if tried.returncode != 0 and _apt("update").returncode == 0:
            tried = _apt("install", "--yes", "--no-install-recommends", *packages)
    if tried.returncode != 0 or missing(absent):
        detail = "\n  ".join((tried.stdout + tried.stderr).splitlines()[-10:])
        raise ToolchainError(f"{wanted}; apt-get could not install them:\n  {detail}")


def allow_watches(limit: Path = INOTIFY_INSTANCES) -> None:
    """Raise the number of inotify instances to `WATCHES` where it is lower and we may.

    Each proxy takes a few, and Envoy ends itself when it gets none; Debian allows 128 to a user.
    It is a limit of the whole machine and stays as raised. Where we may not, says what to set.
    """
    if int(limit.read_text()) >= WATCHES:
        return
    try:
        limit.write_text(str(WATCHES))
    except OSError:
        sys.stderr.write(
            f"fs.inotify.max_user_instances is {limit.read_text().strip()}; with more than one lab"
            f" proxies may not start: set it to {WATCHES} with sysctl\n"
        )
    else:
        sys.stderr.write(f"raised fs.inotify.max_user_instances to {WATCHES}\n")


def missing(programs: Iterable[str]) -> list[str]:
    """Those of `programs` that are not there, also looking where an ordinary PATH does not."""
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    return [program for program in programs if shutil.which(program, path=path) is None]


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "--quiet", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
