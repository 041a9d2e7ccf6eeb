"""Migrates Airflow's database and creates its pools, in one process: the import takes seconds.

    python -m infra.local_stack.services.airflow_database MARKER TEXT POOL=SLOTS...

Writes TEXT into the file MARKER when all is done.
"""

import sys
from pathlib import Path


def main(marker: Path, text: str, pools: dict[str, int]) -> None:
    """Migrate the database and create the pools. Safe to repeat."""
    from airflow.models.pool import Pool
    from airflow.utils.db import upgradedb

    upgradedb()
    for name, slots in pools.items():
        Pool.create_or_update_pool(name, slots, description="", include_deferred=False)
    marker.write_text(text)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        {name: int(slots) for name, slots in (word.split("=") for word in sys.argv[3:])},
    )
