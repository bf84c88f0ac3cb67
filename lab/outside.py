"""The world outside the mesh: `python -m lab.outside --directory D`.

Serves HTTPS for every host that services may call, and holds the network namespace that clients of
the public hosts run in.
"""

from __future__ import annotations

import argparse
import http.server
import signal
import ssl
import sys
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Says which host was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = f"outside {self.headers.get('host', '')}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    # The first process of a pid namespace hears only signals that it has a handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = http.server.ThreadingHTTPServer(("", 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.directory / "tls.crt", given.directory / "tls.key")
    # The handshake belongs to the connection's own thread, not to the one that accepts.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
