"""The commands about declarations: list, describe, check."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from infra.command_options import Json, print_result


def list_features(
    as_json: Json = False,
    page: Annotated[
        bool, typer.Option("--page", help="Print the page docs/reference/views.md.")
    ] = False,
) -> None:
    """List every view: its entity, its source and its number of features."""
    from features.catalog import domains
    from features.presentation.views import views_table
    from features.presentation.views_page import views_page

    if page:
        typer.echo(views_page(domains()), nl=False)
        return
    rows = views_table(domains())
    print_result(rows, lambda: _lines(rows), as_json=as_json)


def describe(view: Annotated[str, typer.Argument(help="Name of a view.")]) -> None:
    """Describe a view: its entity, source and windows, and the meaning of each feature."""
    from features.catalog import domains
    from features.presentation.views import describe_view, find_view

    typer.echo(describe_view(find_view(domains(), view)))


def check(as_json: Json = False) -> None:
    """Check every declaration, as far as that is possible without data.

    Exit code 1: a declaration contradicts itself or cannot be computed. The message names its file
    and line. Importing the module of a declaration makes the same checks of the declaration itself.
    """
    from features.catalog import domains
    from features.catalog_check import check_domain

    checked = [check_domain(domain) for domain in domains()]

    def text() -> str:
        return "\n".join(
            f"{domain['domain']}: {domain['events']} events, {domain['views']} views,"
            f" {domain['services']} services: valid"
            for domain in checked
        )

    print_result(checked, text, as_json=as_json)


def _lines(rows: Sequence[Mapping[str, object]]) -> str:
    width = max(len(str(row["view"])) for row in rows)
    return "\n".join(
        f"{row['view']:{width}}  {row['features']:3} features by {row['entity']}"
        f" from {row['source']}"
        for row in rows
    )
