"""A server that answers every call alike, and what a gateway or a login page would answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STRANGE_ANSWERS = {
    "an empty object": (200, b"{}"),
    "a list": (200, b"[]"),
    "null": (200, b"null"),
    "a text": (200, b'"hello"'),
    "a page": (200, b"<html>log in</html>"),
    "nothing": (204, b""),
    "no UTF-8": (200, b"\xff\xfe"),
    "deep": (200, b"[" * 100_000),
    "a redirection": (302, b""),
    "a refusal": (403, b"no"),
    "an error as a list": (404, b"[]"),
    "an error as a number": (400, b"7"),
    "a failure": (502, b"<html>bad gateway</html>"),
}
"""Status and body, by name."""


@contextmanager
def a_server(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that answers every GET and POST so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
