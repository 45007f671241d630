"""A server for one page on this machine, with the headers that threads in a page need."""

from __future__ import annotations

import errno
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_server(page: bytes, port: int) -> ThreadingHTTPServer:
    """A server of a page at ``/``, of this machine alone.

    Args:
        page: HTML.
        port: to listen on; 0: any that is free, then ``server_port``.

    Raises:
        ValueError: the port is in use, or may not be used.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments):
            """Requests are nobody's business."""

    class Server(ThreadingHTTPServer):
        # Else a second server could take the port of the first on some systems.
        allow_reuse_address = False

    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise ValueError(
                f"port: expected one that is free on {HOST}, found {port} in use or forbidden; "
                "choose another with --port, or 0 for any"
            ) from None
        raise
