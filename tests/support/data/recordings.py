"""Real events, for tests: built once, by `make setup`, and shared."""

from functools import cache
from pathlib import Path

import polars as pl

from features.catalog.flights.recording import RECORDING as FLIGHTS
from features.catalog.purchases.recording import RECORDING as PURCHASES
from features.replay.recordings import build, fetched

FOLDER = Path(__file__).resolve().parents[3] / ".tools" / "recordings"


@cache
def flights_file() -> Path:
    """The built recording of the flights."""
    return build(FLIGHTS, FOLDER)


@cache
def flights_source() -> Path:
    """The source file that the recording is built from."""
    return fetched(FLIGHTS.source, FOLDER)


@cache
def flights() -> pl.DataFrame:
    """Every event of the recording, in the order of emission."""
    return pl.read_parquet(flights_file())


@cache
def purchases_file() -> Path:
    """The built recording of the purchases."""
    return build(PURCHASES, FOLDER)


@cache
def purchases_source() -> Path:
    """The source file that the recording is built from."""
    return fetched(PURCHASES.source, FOLDER)


@cache
def purchases() -> pl.DataFrame:
    """Every event of the recording, in the order of emission."""
    return pl.read_parquet(purchases_file())
