"""Process 1 of the node: `python -m lab.node.init LAB_DIRECTORY READY_FD`.

Started by `lab.node.node` inside fresh network, mount and process namespaces. It brings up the
loopback device and the bridge that pods attach to, gives the node its own /run and hosts file, and
then only reaps orphans. When it dies the kernel ends every other process of the node and takes the
namespaces, devices and mounts with them, so nothing can be left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

BRIDGE = "voicemesh0"
BRIDGE_ADDRESS = "10.77.0.1"
"""The node's address as pods see it; the pods' network is 10.77.0.0/16."""

HOSTS = f"""127.0.0.1 localhost
{BRIDGE_ADDRESS} istiod.istio-system.svc istiod.istio-system.svc.cluster.local
"""
"""Names that resolve in the node; there is no DNS server in it."""


def main() -> None:
    """Set the node up, say so on the descriptor, stay."""
    directory, ready = Path(sys.argv[1]), int(sys.argv[2])
    try:
        _set_up(directory)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        os.write(ready, f"{error} {detail}".encode())
        sys.exit(1)
    os.write(ready, b"ready")
    os.close(ready)
    _stay()


def _set_up(directory: Path) -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{BRIDGE_ADDRESS}/16", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Our own /run: named network namespaces and xtables' lock stay invisible to the host.
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/netns").mkdir()
    hosts = directory / "hosts"
    hosts.write_text(HOSTS)
    _run("mount", "--bind", str(hosts), "/etc/hosts")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _stay() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Wakes `sigwait` when an orphan of any part ends.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, 3600)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
