"""`python -m schema` writes the wire types; `--check` only says whether they are stale."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from lab.toolchain.crds import istio_api_crds, prometheus_operator_crds
from schema.generate import ISTIO, PROMETHEUS_OPERATOR, generate_all

PROJECT = Path(__file__).resolve().parent.parent


def stale(project: Path, files: dict[Path, str]) -> dict[Path, str]:
    """Files that differ from what the CRDs give, each with how many lines come and go."""
    differences = {}
    for path, text in files.items():
        current = (project / path).read_text() if (project / path).exists() else ""
        if current != text:
            lines = [
                line[0]
                for line in difflib.unified_diff(current.splitlines(), text.splitlines(), n=0)
                if not line.startswith(("+++", "---"))
            ]
            differences[path] = f"+{lines.count('+')} -{lines.count('-')} lines"
    for folder in (ISTIO, PROMETHEUS_OPERATOR):
        for existing in sorted((project / folder).glob("*.py")):
            path = existing.relative_to(project)
            if path not in files and path.name != "__init__.py":
                differences[path] = "no longer generated"
    return differences


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: up to date or written; 1: `--check` found stale files."""
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when stale")
    check: bool = parser.parse_args(arguments).check
    files = generate_all(istio_api_crds(), prometheus_operator_crds())
    differences = stale(PROJECT, files)
    for path, difference in differences.items():
        print(f"{path}: {difference}")
        if not check and path in files:
            (PROJECT / path).parent.mkdir(exist_ok=True)
            (PROJECT / path).write_text(files[path])
        elif not check:
            (PROJECT / path).unlink()
    if check and differences:
        print("The wire types are stale; run `python -m schema`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
