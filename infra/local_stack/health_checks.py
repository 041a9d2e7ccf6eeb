"""HTTP health checks of a server: no response is an OSError, an error status is False."""

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 2.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def responds_ok(url: str) -> bool:
    """Whether the response to a GET has a status below 300.

    Raises:
        OSError: there is no response.
    """
    try:
        with _get(url) as response:
            return bool(response.status < 300)
    except urllib.error.HTTPError:
        return False


def get_json(url: str) -> Any:
    """The JSON in the response to a GET.

    Raises:
        OSError: there is no response, or one with an error status.
    """
    with _get(url) as response:
        return json.load(response)


def _get(url: str) -> Any:
    # urllib and not httpx: the supervisor's memory is counted, and it calls only this machine,
    # which no proxy is asked about.
    return _OPENER.open(url, timeout=TIMEOUT_S)
