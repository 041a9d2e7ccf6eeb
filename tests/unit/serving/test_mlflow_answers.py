"""Whatever answers at MLflow's address, serving goes on with the model that it has."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from features.catalog.flights.services import FLIGHT_DELAY
from serving.adapters.mlflow_rest import MlflowModelSource
from serving.champion import CURRENT, Champion
from serving.errors import ModelUnavailable
from serving.model import ModelVersion
from tests.unit.serving.test_champion import Source, promote, served_version

VERSION = ModelVersion(name="flight_delay", version="1", run_id="r", bundle_sha256="0" * 64)
ANSWERS = {
    "an empty object": (200, b"{}"),
    "a list": (200, b"[]"),
    "null": (200, b"null"),
    "a text": (200, b'"hello"'),
    "a page": (200, b"<html>log in</html>"),
    "nothing": (204, b""),
    "no UTF-8": (200, b"\xff\xfe"),
    "deep": (200, b"[" * 100_000),
    "an empty version": (200, b'{"model_version": {}}'),
    "a list for a version": (200, b'{"model_version": []}'),
    "null for a version": (200, b'{"model_version": null}'),
    "an object for a name": (200, b'{"model_version": {"name": {}, "version": "1"}}'),
    "no list of tags": (200, b'{"model_version": {"name": "a", "version": "1", "tags": 7}}'),
    "tags without keys": (200, b'{"model_version": {"name": "a", "version": "1", "tags": [{}]}}'),
    "a redirection": (302, b""),
    "a refusal": (403, b"no"),
    "an error as a list": (404, b"[]"),
    "an error as a number": (400, b"7"),
    "files that are none": (200, b'{"files": [7], "run": [], "model_version": 1}'),
}


@contextmanager
def a_server(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(body)

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


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_another_shape_is_no_answer(name: str, tmp_path: Path) -> None:
    with a_server(*ANSWERS[name]) as url:
        source = MlflowModelSource(url, name="flight_delay")
        for call in (source.current, lambda: source.fetch(VERSION, tmp_path)):
            with pytest.raises(ModelUnavailable):
                call()
        source.close()


class Broken(Source):
    """A source with a fault of its own."""

    def current(self) -> ModelVersion | None:
        raise KeyError("model_version")


@pytest.mark.parametrize("in_the_way", [CURRENT, "models"])
def test_a_model_that_cannot_be_remembered_serves_all_the_same(
    in_the_way: str, tmp_path: Path
) -> None:
    """The pointer file cannot be written: a folder has its name, or the disk is full."""
    bundle = tmp_path / "bundle"
    version = promote(bundle, intercept=-1)
    folder = tmp_path / "models"
    if in_the_way == CURRENT:
        (folder / CURRENT / "full").mkdir(parents=True)
    else:
        folder.write_text("in the way")
    champion = Champion(Source(bundle), folder=folder, service=FLIGHT_DELAY, warm_rows=10)
    champion.restore()
    champion.refresh()
    if in_the_way == CURRENT:
        assert served_version(champion) == version
    else:
        assert champion.model is None
    assert champion.trouble


def test_a_fault_in_a_check_for_a_new_model_leaves_the_old_one_in_service(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    version = promote(bundle, intercept=-1)
    source = Source(bundle)
    champion = Champion(source, folder=tmp_path / "models", service=FLIGHT_DELAY, warm_rows=10)
    champion.refresh()
    champion._source = Broken(bundle)
    champion.refresh()
    assert served_version(champion) == version
    assert "model_version" in champion.trouble
