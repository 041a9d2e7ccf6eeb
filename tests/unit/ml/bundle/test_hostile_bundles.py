"""Anyone who may write model files can neither stop nor corrupt a process that reads them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ml.training.candidates import boosted_trees
from tests.support.faults import FaultCounts
from tests.unit.ml.bundle.test_format import fit


@pytest.mark.slow
def test_a_changed_bundle_is_refused_or_scores(tmp_path: Path, faults: FaultCounts) -> None:
    fitted = fit(boosted_trees, tmp_path / "bundle", max_iter=3, max_leaf_nodes=7)
    command = [sys.executable, "-m", "tests.support.hostile_bundles"]
    process = subprocess.run(
        [*command, str(fitted.folder), fitted.sha256, "0", str(faults.hostile_bundles)],
        capture_output=True,
        text=True,
        check=False,
    )
    *numbers, outcomes = process.stdout.splitlines() or [""]
    assert process.returncode == 0, f"copy {numbers[-1:]} ended it: {process.stderr[-2_000:]}"
    counted: dict[str, int] = json.loads(outcomes)
    assert sum(counted.values()) == len(numbers) == faults.hostile_bundles
    assert min(counted["refused"], counted["scored"]) > faults.hostile_bundles // 20, counted
