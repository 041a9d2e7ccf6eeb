"""The health and metrics pages of a process."""

import json

import httpx
import pytest
from prometheus_client import Counter

from infra.process.health import HealthServer, PortBusy


class Process:
    live = True
    why_not = ""

    def is_live(self) -> bool:
        return self.live

    def is_ready(self) -> tuple[bool, str]:
        return not self.why_not, self.why_not


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
