"""Questions to a server about its health. No answer is an OSError; a bad answer is False."""

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 2.0


def answers_ok(url: str) -> bool:
    """Whether a GET is answered with a status below 300.

    Raises:
        OSError: nobody answers.
    """
    try:
        with _get(url) as answer:
            return bool(answer.status < 300)
    except urllib.error.HTTPError:
        return False


def json_of(url: str) -> Any:
    """The JSON that a GET is answered with.

    Raises:
        OSError: nobody answers, or with an error status.
    """
    with _get(url) as answer:
        return json.load(answer)


def _get(url: str) -> Any:
    # http.client and not httpx: the supervisor's memory is counted, and it asks only this machine.
    return urllib.request.urlopen(url, timeout=TIMEOUT_S)  # noqa: S310
