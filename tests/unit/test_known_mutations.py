"""The mutations of `make mutate PART=known` still fit the code that they change."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import replaced
from tests.mutation.parts import PARTS, ROOT

KNOWN = tomllib.loads((ROOT / "tests" / "mutation" / "known.toml").read_text())["mutation"]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known["what"])
def test_a_known_mutation_changes_code_that_is_there(known: dict[str, Any]) -> None:
    mutant = replaced(Path(known["file"]), known["before"], known["after"])
    compile(mutant.source, known["file"], "exec")
    assert all((ROOT / test).exists() for test in known["tests"])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_has_files_and_tests(part: Any) -> None:
    assert part.sources()
    assert all((ROOT / test).exists() for test in part.tests)
