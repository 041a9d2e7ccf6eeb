"""The health and metrics pages of a process."""

import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Counter

from infra.process.health import CONNECTIONS, HealthServer, PortBusy
from tests.support.waiting import wait_until


class Process:
    live = True
    why_not = ""

    def is_live(self) -> bool:
        return self.live

    def is_ready(self) -> tuple[bool, str]:
        return not self.why_not, self.why_not


@pytest.fixture(scope="module")
def pages() -> Iterator[httpx.Client]:
    """The pages of a process that is live and ready."""
    process = Process()
    with (
        HealthServer(0, live=process.is_live, ready=process.is_ready) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


def test_the_pages_show_the_state_of_the_process() -> None:
    process = Process()
    with HealthServer(0, live=process.is_live, ready=process.is_ready) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/readyz").json() == {"ready": True, "why": ""}
        process.live, process.why_not = False, "no model yet"
        assert httpx.get(f"{url}/healthz").status_code == 503
        response = httpx.get(f"{url}/readyz")
        assert response.status_code == 503
        assert json.loads(response.text) == {"ready": False, "why": "no model yet"}
        assert httpx.get(f"{url}/secrets").status_code == 404


def test_the_metrics_page_has_the_counters() -> None:
    Counter("health_page_test", "Counts this test").inc()
    process = Process()
    with HealthServer(0, live=process.is_live, ready=process.is_ready) as server:
        page = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    assert "health_page_test_total 1.0" in page


def test_a_busy_port_is_an_error_that_names_it() -> None:
    process = Process()
    with (
        HealthServer(0, live=process.is_live, ready=process.is_ready) as server,
        pytest.raises(PortBusy, match=str(server.port)),
    ):
        HealthServer(server.port, live=process.is_live, ready=process.is_ready)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9101", "[::1]:9101", "LOCALHOST"])
def test_the_pages_answer_to_the_names_of_this_machine(pages: httpx.Client, host: str) -> None:
    assert pages.get("/metrics", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "10.evil.example:80",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "x@[",
        "ingest",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz", "/"])
def test_a_page_whose_name_was_made_to_point_here_reads_nothing(
    pages: httpx.Client, host: str, path: str
) -> None:
    assert pages.get(path, headers={"host": host}).status_code == 403


def test_in_a_network_the_pages_answer_to_addresses_and_names_of_that_network() -> None:
    process = Process()
    with HealthServer(
        0,
        live=process.is_live,
        ready=process.is_ready,
        host="0.0.0.0",
        names=["ingest.svc.example"],
    ) as server:
        url = f"http://127.0.0.1:{server.port}/healthz"
        for host in ("ingest:8081", "10.1.2.3", "localhost", "ingest.svc.example:8081"):
            assert httpx.get(url, headers={"host": host}).status_code == 200
        assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403


def half_open(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127")
    return client


def test_half_open_connections_hold_few_threads_and_keep_nobody_out() -> None:
    process, before = Process(), threading.active_count()
    with HealthServer(0, live=process.is_live, ready=process.is_ready, timeout_s=60) as server:
        clients = [half_open(server.port) for _ in range(4 * CONNECTIONS)]
        try:
            url = f"http://127.0.0.1:{server.port}/healthz"
            assert httpx.get(url, timeout=30).status_code == 200
            wait_until(
                lambda: threading.active_count() - before <= CONNECTIONS + 1,
                what="the threads of the connections that were closed have ended",
            )
        finally:
            for client in clients:
                client.close()


def test_a_connection_that_keeps_silent_is_closed() -> None:
    process = Process()
    with (
        HealthServer(0, live=process.is_live, ready=process.is_ready, timeout_s=0.2) as server,
        half_open(server.port) as client,
    ):
        assert client.recv(1_000) == b""


def test_a_reason_is_shown_without_its_password() -> None:
    process = Process()
    process.why_not = "no answer from redis://:hunter2@host"
    with HealthServer(0, live=process.is_live, ready=process.is_ready) as server:
        page = httpx.get(f"http://127.0.0.1:{server.port}/readyz").json()
    assert page["why"] == "no answer from redis://:***@host"
