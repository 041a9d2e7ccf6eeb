"""Takes the developer's settings out of the environment of a test session and its children, and
lets threads that wait in them sleep.

Loaded before every other module of the tests (see `addopts` in pyproject.toml): a shell whose
`EVENTIDE_ONLINE_STORE` names a real store must not point a test at it.
"""

import os

PREFIXES = ("EVENTIDE_", "MLFLOW_", "AIRFLOW_")
PROXIES = {f"{scheme}_PROXY" for scheme in ("ALL", "FTP", "HTTP", "HTTPS", "NO")}
# A bucket that is set on purpose for the contract tests: see test_offline_store.
KEPT = {"EVENTIDE_TEST_BUCKET"}


def is_foreign(name: str) -> bool:
    """Whether this variable must be hidden from tests."""
    return name not in KEPT and (name.startswith(PREFIXES) or name.upper() in PROXIES)


# Several workers share the processors: a thread of a training that waits for others must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

for _name in filter(is_foreign, list(os.environ)):
    del os.environ[_name]
