"""Work beside a loop ends with its owner, and does not fail in silence."""

import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from infra.process.background import Background
from tests.support.waiting import wait_for_error


def test_the_work_goes_on_until_it_is_closed() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(closed: threading.Event) -> None:
        begun.set()
        closed.wait()
        ended.set()

    with Background("work", work, patience_s=60):
        assert begun.wait(60)
        assert not ended.is_set()
    assert ended.is_set()


def test_an_error_that_nobody_foresaw_is_written_down_and_handed_to_the_owner() -> None:
    def work(_: threading.Event) -> None:
        raise LookupError("nobody foresaw this")

    with (
        capture_logs() as lines,
        Background("work", work) as background,
        pytest.raises(LookupError, match="nobody foresaw this"),
    ):
        wait_for_error(background.raise_if_failed)
    assert [line["event"] for line in lines] == ["background_failed"]


def test_an_owner_does_not_wait_for_ever_for_work_that_does_not_listen() -> None:
    let_go, ended = threading.Event(), threading.Event()

    def deaf(_: threading.Event) -> None:
        let_go.wait()
        ended.set()

    Background("work", deaf, patience_s=0.01).close()
    assert not ended.is_set()
    let_go.set()


def test_a_process_ends_though_work_goes_on() -> None:
    program = (
        "import time; from infra.process.background import Background;"
        "Background('work', lambda closed: time.sleep(600))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
