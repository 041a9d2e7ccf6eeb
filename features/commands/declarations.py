"""The commands about what is declared."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from features.commands.options import Json, print_result


def list_features(
    as_json: Json = False,
    page: Annotated[
        bool, typer.Option("--page", help="Print the page docs/reference/views.md.")
    ] = False,
) -> None:
    """Every view: what it is about, from which events, with how many features."""
    from features.catalog import domains
    from features.presentation.views import views_table
    from features.presentation.views_page import views_page

    if page:
        typer.echo(views_page(domains()), nl=False)
        return
    rows = views_table(domains())
    print_result(rows, lambda: _lines(rows), as_json=as_json)


def describe(view: Annotated[str, typer.Argument(help="Name of a view.")]) -> None:
    """One view: its entity, source, windows and features, and what each of them means."""
    from features.catalog import domains
    from features.presentation.views import describe_view, find_view

    typer.echo(describe_view(find_view(domains(), view)))


def check(as_json: Json = False) -> None:
    """Check every declaration as far as that goes without data: exit code 1 and the mistake, with
    its file and line, when one contradicts itself or cannot be computed.

    Without `eventide` the same happens when the module of a declaration is imported.
    """
    from features.catalog import domains
    from features.catalog_check import check_domain

    checked = [check_domain(domain) for domain in domains()]

    def text() -> str:
        return "\n".join(
            f"{domain['domain']}: {domain['events']} events, {domain['views']} views,"
            f" {domain['services']} services: sound"
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
