"""Addresses of this machine are asked directly, whatever proxies the environment names."""

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import requests

from infra.http_client import ProxyUnusable, http_client, is_local, local_without_proxy

NOBODY = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"here": true}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("proxy", [NOBODY, "socks5://127.0.0.1:9", "socks5h://127.0.0.1:9", "x:y"])
def test_our_own_servers_are_not_asked_through_a_proxy(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "intranet.example")

    with http_client(url, timeout_s=5) as client:
        assert client.get("/").json() == {"here": True}


@pytest.mark.parametrize("name", PROXIES)
def test_the_supervisor_checks_its_servers_without_a_proxy(url: str, name: str) -> None:
    """In a process that has begun with the proxy: urllib reads them once."""
    module = "infra.local_stack.health_checks"
    check = f"import sys; from {module} import get_json; get_json(sys.argv[1])"
    env = {**os.environ, name: NOBODY}
    subprocess.run([sys.executable, "-c", check, url], env=env, check=True)


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("no_proxy", [None, "NO_PROXY", "no_proxy"])
def test_other_clients_find_that_in_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str | None
) -> None:
    """MLflow asks with `requests`, Airflow's tasks with `httpx`."""
    env = {name: NOBODY} | ({no_proxy: "intranet.example"} if no_proxy else {})
    for key, value in local_without_proxy(env).items():
        monkeypatch.setenv(key, value)

    for address in (url, url.replace("127.0.0.1", "localhost")):
        assert requests.get(address, timeout=5).ok
        assert httpx.get(address, verify=False).is_success  # reads no certificates
        with urllib.request.urlopen(address) as response:
            assert response.status == 200


def test_the_names_that_were_excepted_stay_excepted() -> None:
    env = local_without_proxy({"no_proxy": "a.example, 127.0.0.1"})
    assert env["no_proxy"] == env["NO_PROXY"] == "a.example,127.0.0.1,localhost,::1"


def test_a_proxy_of_a_kind_that_cannot_be_used_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter2@proxy.example:1080")
    with pytest.raises(ProxyUnusable, match=r"mlflow\.example") as raised:
        http_client("https://mlflow.example", timeout_s=1)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://127.8.9.1", True),
        ("http://localhost:1/x", True),
        ("http://[::1]:5000", True),
        ("http://LOCALHOST", True),
        ("http://mlflow.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://10.0.0.1", False),
        ("http://u:p@[", False),
        ("", False),
    ],
)
def test_what_is_an_address_of_this_machine(url: str, local: bool) -> None:
    assert is_local(url) is local
