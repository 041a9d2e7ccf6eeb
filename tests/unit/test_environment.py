"""A test session and its child processes see none of the developer's own settings."""

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
    visible = subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()
    assert not {*visible, *os.environ} & set(FOREIGN), visible
"""


def test_settings_of_the_shell_reach_neither_a_test_nor_its_children(tmp_path: Path) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(f"FOREIGN = {list(FOREIGN)}\n{PROBE}")
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), str(probe)],
        cwd=ROOT,
        env=os.environ | FOREIGN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_such_a_setting_would_have_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", FOREIGN["EVENTIDE_ONLINE_STORE"])
    with pytest.raises(Exception, match="an online store is a folder or one of"):
        load_settings()
