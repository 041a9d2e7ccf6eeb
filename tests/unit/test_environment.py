"""A test session and the processes that it starts see none of the developer's own settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import load_settings

ROOT = Path(__file__).parents[2]
FOREIGN = {
    "EVENTIDE_ONLINE_STORE": "nonsense://a-real-store",
    "EVENTIDE_NO_SUCH_SETTING": "1",
    "MLFLOW_TRACKING_URI": "http://a-real-server",
    "AIRFLOW_HOME": "/a/real/airflow",
    "https_proxy": "http://a-real-proxy",
}
PROBE = """
import os, subprocess, sys
def test_probe():
    child = [sys.executable, "-c", "import os; print(*os.environ, sep='\\\\n')"]
    seen = subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()
    assert not {*seen, *os.environ} & set(FOREIGN), seen
"""


def test_settings_of_the_shell_reach_neither_a_test_nor_its_children(tmp_path: Path) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(f"FOREIGN = {list(FOREIGN)}\n{PROBE}")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), str(probe)],
        cwd=ROOT,
        env=os.environ | FOREIGN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_such_settings_would_have_been_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", FOREIGN["EVENTIDE_ONLINE_STORE"])
    with pytest.raises(Exception, match="nonsense"):
        load_settings()
