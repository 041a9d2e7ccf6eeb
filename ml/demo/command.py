"""The command `eventide demo`."""

from datetime import datetime
from typing import Annotated

import typer

FORMATS = ["%Y-%m-%d"]
FIRST_DAY, LAST_DAY = datetime(2013, 3, 31), datetime(2013, 4, 1)  # noqa: DTZ001 - as typer gives them


def demo(
    first_day: Annotated[
        datetime, typer.Option(formats=FORMATS, help="The first training day.")
    ] = FIRST_DAY,
    last_day: Annotated[
        datetime,
        typer.Option(formats=FORMATS, help="The last one; the live part begins at its cut-off."),
    ] = LAST_DAY,
    live_hours: Annotated[int, typer.Option(min=1, help="Length of the live part, in hours.")] = 48,
) -> None:
    """Run the whole loop on real flights: history, training, live predictions, report, audit.

    Starts the local stack if it does not run, and leaves it running. Skips what an earlier demo has
    done. Writes the results to demo/summary.json in the state folder.
    """
    from infra.settings import load_settings
    from ml.demo.bootstrap import run_demo
    from ml.demo.tour import tour_of

    run_demo(
        tour_of(first_day=first_day.date(), last_day=last_day.date(), live_hours=live_hours),
        load_settings(),
        on_progress=typer.echo,
    )
