"""Logs are events: a constant name to search for, and fields with units."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from stamina.instrumentation import (
    PrometheusOnRetryHook,
    RetryDetails,
    set_on_retry_hooks,
)

from infra.masking import MASK, masked

RETRY_LOG_PAUSE_S = 10.0

log = structlog.get_logger()


def configure_logging(*, json: bool, level: str = "INFO", final: bool = True) -> None:
    """Send log lines of this process to standard error: for people, or one JSON object a line.

    `final`: loggers need not look at the configuration again. Without it a later call changes it.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _Unfailing())),
        cache_logger_on_first_use=final,
    )
    set_on_retry_hooks([PrometheusOnRetryHook, RetryLog()])


def mask_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No password in a log, not even in the text of an error."""
    for name, value in event.items():
        event[name] = _without_secrets_of(name, value)
    return event


def _without_secrets(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {_without_secrets(k): _without_secrets_of(k, v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets(part) for part in value]
    return masked(repr(value))  # as the renderer would show it


def _without_secrets_of(name: Any, value: Any) -> Any:
    """The name of a property may say that its value is secret."""
    is_number = value is None or isinstance(value, bool | int | float)
    if not is_number and masked(f"{name}=x") != f"{name}=x":
        return MASK
    return _without_secrets(value)


class _Unfailing:
    """Standard error that loses lines rather than end the process: the disk may be full."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


class RetryLog:
    """Logs what stamina retries: each type of error at most once in `RETRY_LOG_PAUSE_S`.

    While the brokers are away, calls are repeated several times a second for as long as it takes.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_s: dict[type[Exception], float] = {}

    def __call__(self, details: RetryDetails) -> None:
        """A retry is about to wait."""
        error, now_s = details.caused_by, self._clock()
        if now_s - self._logged_s.get(type(error), -RETRY_LOG_PAUSE_S) < RETRY_LOG_PAUSE_S:
            return
        self._logged_s[type(error)] = now_s
        log.warning(
            "retry_scheduled",
            why=repr(error),
            retry=details.retry_num,
            wait_seconds=round(details.wait_for, 3),
        )
