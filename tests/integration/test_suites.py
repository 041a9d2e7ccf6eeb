"""`make test-fast`, `make test` and `make test-nightly` together leave no test out."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HARMLESS = {"--dist", "loadfile", "--no-loadscope-reorder", "--faults=long"}
FAST = ["-m", "not servers and not fault and not slow"]
FAST_FOLDERS = ["tests/contract", "tests/docs", "tests/unit"]
# Collects as `make test-fast` does, and records every test before the selection.
COLLECT = """
import json, sys
import pytest

class Collected:
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        self.all = [item.nodeid for item in items]
    def pytest_deselected(self, items):
        self.left_out = {i.nodeid: [m.name for m in i.iter_markers()] for i in items}
    def pytest_collection_finish(self, session):
        self.fast = [item.nodeid for item in session.items]

collected = Collected()
assert pytest.main(["--collect-only", "-q", *sys.argv[2:]], plugins=[collected]) == 0
with open(sys.argv[1], "w") as file:
    json.dump(vars(collected), file)
"""


def arguments(target: str) -> list[str]:
    """The arguments that the target gives to pytest, without the number of workers."""
    make = ["make", "-n", "--no-print-directory", target, "MINUTES=1"]
    lines = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = next(line for line in lines.splitlines() if "/pytest" in line)
    _, *options = shlex.split(command)
    at = options.index("-n")
    return options[:at] + options[at + 2 :]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("suites") / "collected.json"
    subprocess.run(
        [sys.executable, "-c", COLLECT, str(file), *FAST],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(file.read_text())


@pytest.mark.parametrize("target", ["test", "test-nightly"])
def test_the_complete_suites_deselect_nothing_and_draw_every_example(target: str) -> None:
    assert set(arguments(target)) <= HARMLESS


def test_the_fast_suite_leaves_out_only_server_fault_and_slow_tests(collected: Any) -> None:
    options = arguments("test-fast")
    assert [a for a in options if a not in HARMLESS] == [
        *FAST,
        "--hypothesis-profile=fast",
        *FAST_FOLDERS,
    ]
    assert sorted([*collected["fast"], *collected["left_out"]]) == sorted(collected["all"])
    assert all(
        {"servers", "fault", "slow"} & set(marks) for marks in collected["left_out"].values()
    )


def test_the_folders_of_the_fast_suite_hold_all_of_its_tests(collected: Any) -> None:
    assert [test for test in collected["fast"] if not test.startswith(tuple(FAST_FOLDERS))] == []


def test_every_test_file_is_collected(collected: Any) -> None:
    files = {test.partition("::")[0] for test in collected["all"]}
    assert files == {str(f.relative_to(ROOT)) for f in (ROOT / "tests").rglob("test_*.py")}


def test_the_fast_suite_has_the_unit_tests_and_the_contracts_on_memory_and_lmdb(
    collected: Any,
) -> None:
    fast = {test.partition("::")[0] for test in collected["fast"]}
    folders = {Path(file).parts[1] for file in fast}
    assert {"unit", "contract"} <= folders
    assert folders.isdisjoint({"integration", "fault", "e2e"})
    unit = {str(f.relative_to(ROOT)) for f in (ROOT / "tests" / "unit").rglob("test_*.py")}
    left_out = collected["left_out"].items()
    slow = {test.partition("::")[0] for test, marks in left_out if "slow" in marks}
    assert unit <= fast | slow
    contract = [test for test in collected["fast"] if "test_online_store.py" in test]
    assert {"memory", "lmdb"} == {test.rpartition("[")[2].rstrip("]") for test in contract}
