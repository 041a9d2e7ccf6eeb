"""The purchases at CDNOW as events, from the data file of the package lifetimes.

The file has days, not times. `docs/reference/purchases.md` says what is assumed about the hour, and
what else there is to know about the data.
"""

import hashlib
import tarfile
from pathlib import Path

import polars as pl

from features.catalog.purchases.events import MADE, REQUESTED
from features.definitions.recordings import Recording, Source, emitted
from infra.clock import DAY, SECOND

FILE = "/lifetimes/datasets/CDNOW_master.txt"
LINE = r"^ (?<customer>\d{5}) (?<date>\d{8}) +(?<quantity>\d+) +(?<dollars>\d+)\.(?<cents>\d\d)$"


def frame(distribution: Path) -> pl.DataFrame:
    """All events in the order of emission, with the columns of a recording."""
    purchases = _with_times(_numbered(_read(distribution)))
    return emitted([(MADE, purchases), (REQUESTED, _requests(purchases))])


def _read(distribution: Path) -> pl.DataFrame:
    """The lines of the file, one a purchase; importing the package fails."""
    with tarfile.open(distribution) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(FILE))
        file = archive.extractfile(member)
        assert file is not None, f"{FILE} is no file"
        lines = file.read().decode("ascii").split("\r\n")
    columns = pl.DataFrame({"line": lines[1:-1]}).select(pl.col("line").str.extract_groups(LINE))
    return columns.unnest("line").select(
        "date",
        customer_id="customer",
        quantity=pl.col("quantity").cast(pl.Int64),
        # From the digits: a hundred times the dollars, as a float, is often a cent less.
        amount_cents=pl.col("dollars").cast(pl.Int64) * 100 + pl.col("cents").cast(pl.Int64),
    )


def _numbered(purchases: pl.DataFrame) -> pl.DataFrame:
    """With an id for each: nothing else tells purchases of one customer and day apart."""
    nth = pl.int_range(1, pl.len() + 1).over("customer_id", "date")
    return purchases.with_columns(event_id=pl.format("{}-{}-{}", "customer_id", "date", nth))


def _with_times(purchases: pl.DataFrame) -> pl.DataFrame:
    """Each at a second of its day that its id picks, and known at once. Both are assumed."""
    seconds = pl.Series([_second_of_day(i) for i in purchases["event_id"]], dtype=pl.Int64)
    at = pl.col("day_us") + seconds * SECOND
    return purchases.with_columns(
        day_us=pl.col("date").str.to_datetime("%Y%m%d", time_zone="UTC").dt.epoch("us")
    ).with_columns(event_time_us=at, known_at_us=at)


def _second_of_day(event_id: str) -> int:
    """1 to 86,399: midnight belongs to the requests."""
    digest = hashlib.sha256(event_id.encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % 86_399


def _requests(purchases: pl.DataFrame) -> pl.DataFrame:
    """One for each customer and day with a purchase, at the midnight that ends it."""
    midnight = pl.col("day_us") + DAY
    return purchases.unique(["customer_id", "day_us"]).select(
        "customer_id",
        event_id=pl.format("{}-{}/forecast_requested", "customer_id", "date"),
        event_time_us=midnight,
        known_at_us=midnight,
    )


RECORDING = Recording(
    name="purchases",
    source=Source(
        package="Lifetimes",
        version="0.11.3",
        sha256="15af22b130ed0cc6148d8ae4eb9b0f9c8c9bc9c952dd4ce68a1da0bc4c80c712",
        licence="MIT",
    ),
    frame=frame,
)
