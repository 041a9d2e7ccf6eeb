"""Health and metrics of a process, over HTTP: /healthz, /readyz, /metrics."""

import json
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from infra.errors import EventideError

log = structlog.get_logger()

Ready = Callable[[], tuple[bool, str]]
Response = tuple[HTTPStatus, str, bytes]


class PortBusy(EventideError):
    """Something else listens there."""

    hint = "choose another with --health-port; 0 takes any free one"


class HealthServer:
    """Responses 200 when `live` (else the process should be restarted) and when `ready` (else it
    should be given no work), 503 otherwise; `ready` also gives the reason.

    Listens from the constructor on. Port 0 takes any free one, see `port`.

    Raises:
        PortBusy: the port is taken.
    """

    def __init__(
        self, port: int, *, live: Callable[[], bool], ready: Ready, host: str = "127.0.0.1"
    ) -> None:
        try:
            self._server = _Server((host, port), _handler(live, ready))
        except OSError as error:
            raise PortBusy(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that hung up is no error of ours; anything else is logged."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            log.error("health_page_failed", exc_info=error)


def _handler(live: Callable[[], bool], ready: Ready) -> type[BaseHTTPRequestHandler]:
    def healthz() -> Response:
        return _json_response(live(), {"live": live()})

    def readyz() -> Response:
        is_ready, why = ready()
        return _json_response(is_ready, {"ready": is_ready, "why": why})

    def metrics() -> Response:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest()

    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            status, kind, body = route() if route else (HTTPStatus.NOT_FOUND, "text/plain", b"")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: one line for each probe would flood the log."""

    return Handler


def _json_response(is_good: bool, content: dict[str, Any]) -> Response:
    status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(content).encode()
