"""The identity of a formula changes with its meaning, and with nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features.identity.errors import NoStableIdentity
from features.identity.formulas import Identity, identity_of
from tests.support.formula_sources import COSMETICS, FILE, MEANINGS, REFUSED, identities
from tests.support.made_modules import MadeModules


@pytest.fixture
def identity(tmp_path: Path) -> Any:
    made = MadeModules(tmp_path)

    def of(source: str) -> Identity:
        return identity_of(made(source).formula, "formula")

    return of


@pytest.mark.parametrize(("before", "after"), MEANINGS.values(), ids=MEANINGS)
def test_a_change_of_meaning_gives_another_identity(identity: Any, before: str, after: str) -> None:
    assert identity(before).digest != identity(after).digest
    assert identity(before).digest == identity(before).digest


@pytest.mark.parametrize(("before", "after"), COSMETICS.values(), ids=COSMETICS)
def test_what_has_no_effect_gives_the_same_identity(identity: Any, before: str, after: str) -> None:
    assert identity(before).digest == identity(after).digest


@pytest.mark.parametrize("source", [source for (source,) in REFUSED.values()], ids=REFUSED)
def test_what_has_no_stable_identity_is_refused_with_a_remedy(identity: Any, source: str) -> None:
    with pytest.raises(NoStableIdentity, match="no stable identity") as caught:
        identity(source)
    assert str(caught.value).startswith("formula")
    assert caught.value.hint


def test_identities_stay_for_ever_in_every_version_of_python() -> None:
    """They are stored beside values: another rule would need a rebuild of every store."""
    assert identities() == json.loads(FILE.read_text())


@pytest.mark.parametrize("seed", ["1", "2"])
def test_identities_do_not_depend_on_the_process_or_its_hash_seed(seed: str) -> None:
    code = (
        "import json; from tests.support.formula_sources import *; print(json.dumps(identities()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert json.loads(output) == json.loads(FILE.read_text())
