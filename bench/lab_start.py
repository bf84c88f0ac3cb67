"""How long a lab takes from nothing until every pod is ready: `python bench/lab_start.py [RUNS]`.

All programs must be built already (`make up` has done it). Each run makes a lab of its own in a
temporary directory with `voicemesh lab start`, deploys stack dev to it, and stops it; then the same
for a lab that was stopped with its data kept.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VOICEMESH = Path(sys.executable).parent / "voicemesh"


def called(*words: str, directory: str) -> str:
    """What a `voicemesh lab` command prints; its progress goes to the terminal."""
    command = [str(VOICEMESH), "lab", *words, f"--directory={directory}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def started(directory: str) -> float:
    """Seconds until the lab is ready."""
    began = time.monotonic()
    called("start", directory=directory)
    return time.monotonic() - began


def memory(directory: str) -> int:
    """Resident bytes of all processes; what they share counts as often as they share it."""
    return sum(
        part["memory"] or 0 for part in json.loads(called("status", "--json", directory=directory))
    )


def main() -> None:
    """Prints the median, the fastest and the slowest of each, and the memory."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    new, again, bytes_used = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="voicemesh-bench-") as directory:
            try:
                new.append(started(directory))
                bytes_used.append(memory(directory))
                called("stop", "--keep-data", directory=directory)
                again.append(started(directory))
            finally:
                called("stop", directory=directory)
    for what, seconds in (("from nothing", new), ("with kept data", again)):
        print(
            f"{what}: median {statistics.median(seconds):.0f} s of {runs} runs,"
            f" {min(seconds):.0f} to {max(seconds):.0f} s"
        )
    print(f"memory: {max(bytes_used) / 2**30:.1f} GiB at the most")


if __name__ == "__main__":
    main()
