"""Background work ends with its owner, and its errors reach the owner."""

import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from infra.process.background import Background
from tests.support.waiting import wait_for_error


def test_the_work_runs_until_it_is_closed() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(closed: threading.Event) -> None:
        begun.set()
        closed.wait()
        ended.set()

    with Background("work", work, patience_s=60):
        assert begun.wait(60)
        assert not ended.is_set()
    assert ended.is_set()


def test_an_unexpected_error_is_logged_and_raised_to_the_owner() -> None:
    def work(_: threading.Event) -> None:
        raise LookupError("nobody foresaw this")

    with (
        capture_logs() as lines,
        Background("work", work) as background,
        pytest.raises(LookupError, match="nobody foresaw this"),
    ):
        wait_for_error(background.raise_if_failed)
    assert [line["event"] for line in lines] == ["background_failed"]


def test_an_owner_waits_a_limited_time_for_work_that_does_not_stop() -> None:
    released, ended = threading.Event(), threading.Event()

    def unresponsive(_: threading.Event) -> None:
        released.wait()
        ended.set()

    Background("work", unresponsive, patience_s=0.01).close()
    assert not ended.is_set()
    released.set()


def test_a_process_exits_while_background_work_runs() -> None:
    program = (
        "import time; from infra.process.background import Background;"
        "Background('work', lambda closed: time.sleep(600))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
