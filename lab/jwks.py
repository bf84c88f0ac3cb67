"""The token issuers' key server: `python -m lab.jwks --port N --directory D`.

Serves the public keys that `lab.tokens` made, one file per issuer, at the paths that the stack's
`jwksUri`s name. istiod fetches them by the server's Service name, as it would from an issuer.
"""

from __future__ import annotations

import argparse
import http.server
import signal
import sys
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one directory; paths with a slash are kept as names with an underscore."""

    def translate_path(self, path: str) -> str:
        """The file of a path."""
        return str(Path(self.directory) / path.split("?")[0].strip("/").replace("/", "_"))

    def guess_type(self, path: object) -> str:  # noqa: ARG002
        """Everything is JSON."""
        return "application/json"


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    # The first process of a pid namespace hears only signals that it has a handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def handler(*arguments: object) -> Handler:
        return Handler(*arguments, directory=str(given.directory))  # type: ignore[arg-type]

    http.server.ThreadingHTTPServer(("", given.port), handler).serve_forever()


if __name__ == "__main__":
    main()
