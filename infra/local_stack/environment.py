"""The environment of the services: what they need of the operator's, and nothing else.

An operator's shell holds keys of clouds, tokens and passwords; a broker needs none of them.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from infra.http_client import NO_PROXY_NAMES, PROXY_NAMES, local_without_proxy

BASE = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH")
EVENTIDE = (
    *("EVENTIDE_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *PROXY_NAMES,
    *NO_PROXY_NAMES,
)
"""Our own processes: their settings, and the way to servers elsewhere."""
CLOUDS = ("AWS_*", "AZURE_*", "GOOGLE_*", "GCP_*", "GCS_*", "GCLOUD_*", "CLOUDSDK_*")
"""Who reads or writes the offline store, which may be in a cloud."""

_OURS = ("EVENTIDE_STACK__*", "EVENTIDE_AIRFLOW_*")
"""For commands and the supervisor alone: which servers run elsewhere, and their passwords."""

COMMON = {
    # Waiting threads of OpenMP would spin on the cores that others need.
    "OMP_WAIT_POLICY": "PASSIVE",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PYTHONUNBUFFERED": "1",
    # Names of files are UTF-8 and case follows no language, whatever the operator's locale is.
    "LC_ALL": "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8",
    "TZ": "UTC",
    # A password in ~/.netrc for any host would replace the login of our own servers.
    "NETRC": os.devnull,
}


def stack_environment(base: Mapping[str, str], *, state: Path) -> dict[str, str]:
    """The environment of the supervisor: the operator's, made fit for any service."""
    env = {name: value for name, value in base.items() if name not in unusable_proxies(base)}
    programs = str(Path(sys.executable).parent)
    return {
        "HOME": str(state),
        **local_without_proxy(env),
        **COMMON,
        "PATH": f"{programs}{os.pathsep}{base.get('PATH', os.defpath)}",
        "EVENTIDE_STATE_DIR": str(state),
    }


def inherited(env: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """What a service gets of `env`: what all get, and the names or patterns that it asks for."""
    patterns = (*BASE, *COMMON, *names)
    return {k: v for k, v in env.items() if _matches(k, patterns) and not _matches(k, _OURS)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unusable_proxies(env: Mapping[str, str]) -> list[str]:
    """The variables that name a SOCKS proxy which no client here can use.

    httpx, Airflow's client, raises for them even when it would not use them.
    """
    if find_spec("socksio") is not None:
        return []
    return [n for n in PROXY_NAMES if env.get(n, "").lower().startswith("socks")]
