"""Namespaces instead of containers: what a pod's processes share, and the root each one sees.

A pod is a process that sleeps in namespaces of its own (network, pids, host name, IPC); when it
ends, the kernel ends everything in them. A container is a process in those namespaces, the first
of a pid namespace of its own, so that what it started ends with it. It has a file system of its
own: /usr of this machine, read-only, the image's files, and the pod's volumes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64")
_ETC = ("passwd", "group", "protocols", "services", "ld.so.cache", "nsswitch.conf", "localtime")


class Sandbox:
    """The namespaces of one pod."""

    def __init__(self, hostname: str) -> None:
        # The thread that starts it must outlive it (the death signal is the thread's), and does:
        # each pod has a thread of its own.
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--uts", "--ipc",
             "--fork", "--kill-child", "--", "sh", "-c",
             f"hostname {shlex.quote(hostname)}; exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.pid = _child(self._holder)

    def enter(self) -> list[str]:
        """A command prefix that runs what follows inside the namespaces."""
        return ["nsenter", "-t", str(self.pid), "-n", "-p", "-i", "-u", "--"]

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Set kernel parameters of the pod's network."""
        for name, value in settings.items():
            subprocess.run(
                [*self.enter(), "sysctl", "-q", "-w", f"{name}={value}"],
                check=True,
                capture_output=True,
            )

    def close(self) -> None:
        """End the pod's processes; network and mounts go with them."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._holder.pid, signal.SIGKILL)
        self._holder.wait()


@dataclass(frozen=True)
class Mount:
    """A directory or file of this machine inside a container."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Launch:
    """All that is needed to start one container."""

    command: Sequence[str]
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    user: int
    group: int
    keep_capabilities: bool = False
    """True for processes that set up the pod's network."""
    read_only_root: bool = False
    directory: str = "/"


@dataclass
class Process:
    """One run of a container."""

    popen: subprocess.Popen[bytes]
    pid: int
    """The container's first process, as this machine numbers it."""
    started: float = field(default_factory=time.time)

    def signal(self, number: int) -> None:
        """Send a signal, unless the process is gone already."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def enter(self) -> list[str]:
        """A command prefix that runs what follows as another process of the container."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-i", "-u", "-r", "-w", "--"]


def start(sandbox: Sandbox, launch: Launch, directory: Path, log: Path) -> Process:
    """Start a container; its script and root are kept in `directory`, its output goes to `log`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "root").mkdir(exist_ok=True)
    run = directory / "run.sh"
    run.write_text(script(launch, directory / "root"))
    environment = {"PATH": DEFAULT_PATH, "HOME": "/", **launch.environment}
    with log.open("ab") as output:
        log.chmod(0o666)  # proxies open /dev/stdout again, as their own user
        popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *sandbox.enter(), "unshare", "--mount", "--propagation",
             "private", "--pid", "--fork", "--kill-child", "/bin/sh", str(run)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            start_new_session=True,
        )  # fmt: skip
    return Process(popen, _child(popen, generations=2))


def script(launch: Launch, root: Path) -> str:
    """The shell script that builds a container's file system and becomes its process."""
    lines = [
        "set -e",
        f"R={shlex.quote(str(root))}",
        'mount -t tmpfs -o mode=755,size=64m tmpfs "$R"',
        'cd "$R"',
        "mkdir usr etc proc dev sys tmp run var root home opt srv",
        "chmod 1777 tmp",
        "ln -s /run var/run",
        "mkdir -p var/lib var/tmp var/log run/secrets",
        "mount --bind /usr usr",
        # Programs of images go to a directory of their own over the machine's.
        "mount -t tmpfs -o mode=755 tmpfs usr/local",
        "mkdir usr/local/bin",
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
    ]
    for name in _MERGED:
        path = Path("/") / name
        if path.is_symlink():
            lines.append(f"ln -s {shlex.quote(str(path.readlink()))} {name}")
        elif path.exists():
            lines.append(f"mkdir {name}; mount --bind /{name} {name}")
    present = [f"/etc/{name}" for name in _ETC if Path("/etc", name).exists()]
    lines.append(f"cp -L {' '.join(present)} etc/")
    if Path("/etc/alternatives").is_dir():
        lines.append("mkdir etc/alternatives; mount --bind /etc/alternatives etc/alternatives")
    # A short path first: a volume inside another one is mounted over it. Read-only comes last,
    # so that there can be a place for the inner one.
    mounts = sorted(launch.mounts, key=lambda mount: mount.target.count("/"))
    for mount in mounts:
        lines += _bind(mount)
    lines += [f"mount -o remount,bind,ro {_target(m)}" for m in mounts if m.read_only]
    if launch.read_only_root:
        lines.append("mount -o remount,ro .")
    lines.append("mount -o remount,bind,ro usr 2>/dev/null || true")
    identity = ["--reuid", str(launch.user), "--regid", str(launch.group), "--clear-groups"]
    if not launch.keep_capabilities:
        identity += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    command = shlex.join(
        ["/usr/bin/setpriv", *identity, "--pdeathsig", "KILL", "--", *launch.command]
    )
    if launch.directory != "/":
        command = shlex.join(
            ["/bin/sh", "-c", f"cd {shlex.quote(launch.directory)} && exec {command}"]
        )
    lines.append(f"exec chroot . {command}")
    return "\n".join(lines) + "\n"


def _bind(mount: Mount) -> list[str]:
    target = _target(mount)
    make = (
        f"mkdir -p {target}"
        if mount.source.is_dir()
        else f"mkdir -p $(dirname {target}); [ -e {target} ] || touch {target}"
    )
    return [make, f"mount --bind {shlex.quote(str(mount.source))} {target}"]


def _target(mount: Mount) -> str:
    """Relative to the root; /var/run is a link to /run and would point out of it."""
    relative = mount.target.lstrip("/")
    if relative.startswith("var/run/"):
        relative = relative.removeprefix("var/")
    return shlex.quote(relative)


def _child(popen: subprocess.Popen[bytes], generations: int = 1) -> int:
    """The process that a command forked, or that its child did.

    setpriv becomes its last command; nsenter and unshare stay and wait for a child.
    """
    deadline = time.monotonic() + 10
    pid, left = popen.pid, generations
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                pid, left = int(found[0]), left - 1
                if not left:
                    return pid
                continue
        if popen.poll() is not None:
            break
        time.sleep(0.002)
    raise OSError(f"{popen.args!r} did not start (exit {popen.poll()})")
