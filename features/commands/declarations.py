"""The commands about declarations: list, describe, check."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from infra.command_options import Json, print_result
from infra.wording import counted


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
    """Check every declaration: events, views, services, labels and recordings.

    Types, names and fields are compared with each other. Every formula runs on records that are
    made up from the declared types, bounds and nulls. All mistakes are reported, each with file,
    line and remedy. `eventide check` also checks the projects.

    Exit code 1: there is a mistake. It stops only the domain that it is in.
    """
    from features import catalog
    from features.catalog_check.catalog import check_catalog, rows
    from features.presentation.mistakes import catalog_text
    from infra.discovery import forgetting_imports

    with forgetting_imports(catalog):
        report = check_catalog(catalog)
    print_result(rows(report), lambda: catalog_text(report), as_json=as_json)
    if report.mistakes:
        raise typer.Exit(1)


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    width = max((len(str(row["view"])) for row in rows), default=0)
    return "\n".join(
        f"{row['view']:{width}}  {counted(row['features'], 'feature'):11} by {row['entity']}"
        f" from {row['source']}"
        for row in rows
    )
