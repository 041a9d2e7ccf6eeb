"""Health and metrics of a process, over HTTP: /healthz, /readyz, /metrics."""

import ipaddress
import json
import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from infra.errors import EventideError
from infra.http_client import host_of, is_local
from infra.masking import masked

CONNECTIONS = 32
"""At a time; a probe needs one for some milliseconds."""
TIMEOUT_S = 5.0
"""For which a connection may keep silent."""

log = structlog.get_logger()

Ready = Callable[[], tuple[bool, str]]
Response = tuple[HTTPStatus, str, bytes]


class PortBusy(EventideError):
    """Something else listens there."""

    hint = "choose another with --health-port; 0 takes any free one"


class HealthServer:
    """Responses 200 when `live` (else the process should be restarted) and when `ready` (else it
    should be given no work), 503 otherwise; `ready` also gives the reason.

    Listens from the constructor on. Port 0 takes any free one, see `port`. It answers to the names
    of this machine, or, listening on another address, to addresses, to names without a dot, and to
    `names`: so a page whose name was made to point here reads nothing.

    Raises:
        PortBusy: the port is taken.
    """

    def __init__(
        self,
        port: int,
        *,
        live: Callable[[], bool],
        ready: Ready,
        host: str = "127.0.0.1",
        names: Collection[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        is_known = partial(_is_known, at_home=is_local(f"//{host}"), names=frozenset(names))
        try:
            self._server = _Server((host, port), _handler(live, ready, is_known, timeout_s))
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
    """A thread for each of a few connections; one more closes the one that waits longest."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[int, socket.socket] = {}  # in the order in which they came
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._open) >= CONNECTIONS:
                _hang_up(self._open.pop(next(iter(self._open))))
            self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that hung up or waits is no error of ours; anything else is logged."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("health_page_failed", exc_info=error)


def _hang_up(connection: socket.socket) -> None:
    """End the reading of its thread, which then closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _is_known(header: str, *, at_home: bool, names: frozenset[str]) -> bool:
    """Whether a request may name this as its host."""
    name = host_of(f"//{header}")
    if is_local(f"//{header}") or name in names:
        return True
    return not at_home and bool(name) and (_is_address(name) or "." not in name)


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _handler(
    live: Callable[[], bool], ready: Ready, is_known: Callable[[str], bool], timeout_s: float
) -> type[BaseHTTPRequestHandler]:
    def healthz() -> Response:
        return _json_response(live(), {"live": live()})

    def readyz() -> Response:
        is_ready, why = ready()
        return _json_response(is_ready, {"ready": is_ready, "why": masked(why)})

    def metrics() -> Response:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest()

    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}

    class Handler(BaseHTTPRequestHandler):
        timeout = timeout_s

        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0]) or _missing
            status, kind, body = (route if is_known(self.headers.get("host", "")) else _foreign)()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: one line for each probe would flood the log."""

    return Handler


def _missing() -> Response:
    return HTTPStatus.NOT_FOUND, "text/plain", b""


def _foreign() -> Response:
    return HTTPStatus.FORBIDDEN, "text/plain", b"this process has another name"


def _json_response(is_good: bool, content: dict[str, Any]) -> Response:
    status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(content).encode()
