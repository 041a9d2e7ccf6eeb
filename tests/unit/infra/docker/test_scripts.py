"""The small programs of the images do what their first comment lines promise."""

import json
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[4] / "infra" / "docker"
HEALTH = {"scheduler": {"status": "healthy"}, "triggerer": {"status": None}, "other": None}


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOCKER / program, *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def _secrets(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_make_env_writes_every_secret_into_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    assert _run("make-env", str(file)).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    example = (DOCKER / "example.env").read_text().splitlines()
    secrets = _secrets(file)
    assert set(secrets) == {line.rstrip("=") for line in example if line.endswith("=")}
    assert all(len(value) >= 22 for value in secrets.values())


def test_make_env_generates_new_secrets_each_time(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        assert _run("make-env", str(file)).returncode == 0
    first, second = (set(_secrets(file).values()) for file in files)
    assert not first & second


def test_make_env_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("POSTGRES_PASSWORD=mine\n")
    completed = _run("make-env", str(file))
    assert completed.returncode == 1
    assert "exists" in completed.stderr
    assert file.read_text() == "POSTGRES_PASSWORD=mine\n"


def test_own_pid_exits_with_the_code_of_its_command() -> None:
    assert _run("own-pid", "sh", "-c", "exit 7").returncode == 7
    assert _run("own-pid", "true").returncode == 0


def test_own_pid_forwards_the_signal_and_waits_for_the_command() -> None:
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with subprocess.Popen(
        [DOCKER / "own-pid", sys.executable, "-c", program], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 5


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that answers /health with JSON and everything else with 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()
            self.wfile.write(json.dumps(HEALTH).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_http_ok_succeeds_only_for_a_good_response(url: str) -> None:
    assert _run("http-ok", f"{url}/health").returncode == 0
    assert _run("http-ok", f"{url}/else").returncode != 0


def test_http_ok_checks_a_field_of_the_response(url: str) -> None:
    assert _run("http-ok", f"{url}/health", "scheduler.status=healthy").returncode == 0
    for field in ("triggerer", "other", "missing"):
        completed = _run("http-ok", f"{url}/health", f"{field}.status=healthy")
        assert completed.returncode != 0
        assert f"{field}.status is None" in completed.stderr
