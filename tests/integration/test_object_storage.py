"""An offline store by URL: the options of the settings reach the storage and nothing else."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from features.bootstrap.stores import open_offline
from features.catalog.flights.events import DEPARTED
from features.errors import StoreUnavailable
from infra.settings import Settings

KEY, SECRET = "the-key-id", "the-secret"


class Refuses(BaseHTTPRequestHandler):
    """A storage that refuses every request, and records its path and authorization."""

    requests: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requests.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def storage() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_options_reach_the_storage_and_no_message_shows_the_secret(storage: str) -> None:
    settings = Settings(
        offline_store="s3://a-bucket/offline",
        offline_options={
            "AWS_ENDPOINT_URL": storage,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        },
    )
    store = open_offline(settings)
    with pytest.raises(StoreUnavailable, match=r"s3://a-bucket/offline/flight.departed") as caught:
        store.version(DEPARTED)
    path, signature = Refuses.requests[0]
    assert path.startswith("/a-bucket")
    assert f"Credential={KEY}/" in signature
    assert "/eu-central-1/s3/" in signature
    assert SECRET not in f"{caught.value} {caught.value.hint} {signature} {settings!r}"
