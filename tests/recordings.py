"""The real flights, for tests: built once, by `make setup`, and shared."""

from functools import cache
from pathlib import Path

import polars as pl

from features.catalog.flights.recording import RECORDING
from features.recording import build, fetched

FOLDER = Path(__file__).resolve().parent.parent / ".tools" / "recordings"


@cache
def flights_file() -> Path:
    """The built recording of the flights."""
    return build(RECORDING, FOLDER)


@cache
def flights_source() -> Path:
    """What it was built from."""
    return fetched(RECORDING.source, FOLDER)


@cache
def flights() -> pl.DataFrame:
    """Every event of the recording, in the order of emission."""
    return pl.read_parquet(flights_file())
