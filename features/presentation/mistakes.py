"""The result of a check for people: one line a domain, then every mistake with its remedy."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from features.catalog_check.catalog import CatalogReport, rows
from features.catalog_check.mistakes import Mistake
from infra.wording import counted


def catalog_text(report: CatalogReport) -> str:
    """The domains, and their mistakes."""
    return "\n".join([*_domains(report), *mistake_lines(report.mistakes)])


def check_text(
    report: CatalogReport, projects: Sequence[str], of_projects: Sequence[Mistake]
) -> str:
    """The domains, the projects, and their mistakes."""
    lines = [
        f"project {name}: {count_of([m for m in of_projects if m.domain == name])}"
        for name in projects
    ]
    mistakes = [*report.mistakes, *of_projects]
    return "\n".join([*_domains(report), *lines, *mistake_lines(mistakes)])


def check_rows(
    report: CatalogReport, projects: Sequence[str], of_projects: Sequence[Mistake]
) -> dict[str, object]:
    """The same as JSON types."""
    return {
        "domains": rows(report),
        "projects": [
            {"project": name, "mistakes": [m for m in of_projects if m.domain == name]}
            for name in projects
        ],
    }


def mistake_lines(mistakes: Sequence[Mistake]) -> Iterator[str]:
    """Each mistake as `file:line: sentence`, with files as they are seen from here, and the remedy
    below it."""
    here = Path.cwd()
    for mistake in mistakes:
        yield str(mistake).replace(f"{here}/", "")


def count_of(mistakes: Sequence[Mistake]) -> str:
    """`valid`, or how many mistakes there are."""
    return counted(len(mistakes), "mistake") if mistakes else "valid"


def _domains(report: CatalogReport) -> Iterator[str]:
    for name, domain in sorted(report.domains.items()):
        own = [m for m in report.mistakes if name in m.domain.split(", ")]
        if domain is None or own:
            yield f"{name}: {count_of(own)}"
        else:
            yield (
                f"{name}: {counted(len(domain.events), 'event')},"
                f" {counted(len(domain.views), 'view')},"
                f" {counted(len(domain.services), 'service')}: valid"
            )
    if not report.domains:
        yield "no domain is declared: add a folder in features/catalog"
