"""Bundles, records and run keys of earlier releases stay readable.

The files in `frozen/models` were written by the release before this test was.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.bundle.format import MANIFEST, MODEL, TREES, sha256_of
from ml.bundle.scoring import Bundle
from ml.errors import BundleRefused
from ml.live_performance import LiveReport
from ml.projects import projects
from ml.results import from_plain, to_plain
from ml.steps.artifacts import run_key
from ml.steps.table import STEPS
from ml.training.legacy_bundles import convert_in_a_process
from tests.support.data.small_project import small_project

FROZEN = Path(__file__).parents[2] / "support" / "data" / "frozen" / "models"
SCORED: dict[str, Any] = json.loads((FROZEN / "scores.json").read_text())
RECORDS: dict[str, Any] = json.loads((FROZEN / "records.json").read_text())
TYPES: dict[str, Any] = {step.name: step.record for step in STEPS}
NO_DATA = "00" * 32


def test_a_linear_bundle_of_an_earlier_release_loads_and_scores_as_it_did() -> None:
    _assert_scores(FROZEN / "linear", _registered_sha256("linear"), "linear")


def test_trees_of_an_earlier_release_score_as_they_did_once_converted(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="format 1") as refused:
        Bundle.load(FROZEN / "trees", _registered_sha256("trees"))
    assert "eventide models convert" in str(refused.value.hint)
    sha256 = convert_in_a_process(FROZEN / "trees", _registered_sha256("trees"), tmp_path / "new")
    _assert_scores(tmp_path / "new", sha256, "trees")


@pytest.mark.parametrize("damage", ["a count", "the end"])
def test_trees_of_an_earlier_release_that_were_damaged_are_refused(
    damage: str, tmp_path: Path
) -> None:
    """The reader of the old trees may crash or allocate without end: here it costs a process."""
    folder = tmp_path / "old"
    shutil.copytree(FROZEN / "trees", folder)
    blob = bytearray((folder / TREES).read_bytes())
    if damage == "the end":
        del blob[len(blob) // 2 :]
    else:
        blob[100:108] = b"\xff" * 8
    (folder / TREES).write_bytes(blob)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][TREES] = {"size": len(blob), "sha256": sha256_of(bytes(blob))}
    raw = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleRefused, match="cannot be converted"):
        convert_in_a_process(folder, sha256_of(raw), tmp_path / "new")


def _registered_sha256(kind: str) -> str:
    sha256: str = SCORED["manifest_sha256"][kind]
    assert sha256_of((FROZEN / kind / MANIFEST).read_bytes()) == sha256
    return sha256


def _assert_scores(folder: Path, sha256: str, kind: str) -> None:
    rows = SCORED["rows"]
    numbers = np.array(rows["numbers"], dtype=np.float64)  # null becomes NaN
    texts = {"carrier": rows["carrier"], "dest": rows["dest"]}
    bundle = Bundle.load(folder, sha256)
    listed = json.loads((folder / MODEL).read_bytes())["numbers"]
    scores = bundle.score(texts, numbers[:, [listed.index(name) for name in bundle.numbers]])
    expected = np.array([float.fromhex(text) for text in SCORED["scores"][kind]])
    # Equal except the last bit, in which the exponential functions of two processors may differ.
    np.testing.assert_array_max_ulp(scores, expected, maxulp=1)


def test_a_day_trained_by_an_earlier_release_keeps_its_key() -> None:
    """The key holds the modules and names of the functions that build the candidates."""
    assert run_key(small_project(), NO_DATA) == "2f26c44f0198af84"


def test_the_keys_of_the_declared_projects_change_only_with_their_declaration() -> None:
    assert {p.name: run_key(p, NO_DATA) for p in projects()} == {
        "flight_delay": "d1324ec963b11542",
        "repeat_purchase": "fd1c97c894702f35",
    }


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_of_an_earlier_release_is_read_and_written_alike(case: str) -> None:
    """Records are stored in work folders, in the scheduler's database and in MLflow."""
    kind = {**TYPES, "live report": LiveReport}[case.split(",", maxsplit=1)[0]]
    assert to_plain(from_plain(RECORDS[case], kind)) == RECORDS[case]


def test_every_step_has_its_record_of_an_earlier_release_here() -> None:
    assert set(TYPES) <= set(RECORDS)
