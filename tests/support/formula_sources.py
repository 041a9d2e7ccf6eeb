"""Formulas as source text: pairs that differ in meaning, pairs that do not, and some to refuse.

    python -m tests.support.formula_sources

writes the identities that they have today: they are part of stored state, so they stay for ever, in
every version of Python.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from features.identity.formulas import identity_of
from tests.support.made_modules import MadeModules

FILE = Path(__file__).parent / "frozen" / "formula_identities.json"
FOLDER = Path(__file__).parent / "formulas"


def identities() -> dict[str, str]:
    """The identity of each formula that is not refused, by the name of its pair."""
    with TemporaryDirectory() as folder:
        made = MadeModules(Path(folder))
        return {
            f"{name}, {which}": identity_of(made(source).formula, name).digest
            for name, pair in (MEANINGS | COSMETICS).items()
            for which, source in zip(("before", "after"), pair, strict=True)
        }


def _pairs(name: str) -> dict[str, tuple[str, ...]]:
    """The sources of a file, by the title of their section."""
    text = (FOLDER / f"{name}.txt").read_text()
    sections = (section.split("\n", 1) for section in text.split("=== ")[1:])
    return {title: tuple(sources.split("--- and\n")) for title, sources in sections}


MEANINGS, COSMETICS, REFUSED = _pairs("meaning"), _pairs("cosmetic"), _pairs("refused")


if __name__ == "__main__":
    FILE.write_text(json.dumps(identities(), indent=1, sort_keys=True) + "\n")
