"""Retries are logged, but an outage does not fill the log with them."""

from stamina.instrumentation import RetryDetails
from structlog.testing import capture_logs

from infra.logging import RETRY_LOG_PAUSE_S, RetryLog


def a_retry(error: Exception) -> RetryDetails:
    return RetryDetails(
        name="call",
        args=(),
        kwargs={},
        retry_num=1,
        wait_for=0.05,
        waited_so_far=0.0,
        caused_by=error,
    )


def test_each_type_of_error_is_logged_once_per_interval() -> None:
    now_s = 0.0
    retry_log = RetryLog(clock=lambda: now_s)
    with capture_logs() as lines:
        for _ in range(3):
            retry_log(a_retry(OSError("away")))
        retry_log(a_retry(ValueError("busy")))
        now_s = RETRY_LOG_PAUSE_S
        retry_log(a_retry(OSError("still away")))

    assert [line["event"] for line in lines] == ["retry_scheduled"] * 3
    assert [line["why"] for line in lines] == [
        "OSError('away')",
        "ValueError('busy')",
        "OSError('still away')",
    ]
