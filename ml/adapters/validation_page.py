"""The page of a validation: what was expected, and what was seen.

Not the Data Docs of Great Expectations: those put values of the data into HTML as they are, and
load scripts from six other hosts. Here every text is escaped, and the page loads nothing.
"""

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

PAGE = Path("validations") / "page.html"


class Row(NamedTuple):
    """One expectation of the page."""

    expectation: str
    why: str
    severity: str
    holds: bool
    observed: str


def write_page(rows: Iterable[Row], docs: Path) -> None:
    """Write the page below the folder `docs`."""
    page = docs / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([_HEAD, *map(_row, rows), _FOOT]), encoding="utf-8")


def _row(row: Row) -> str:
    result = "holds" if row.holds else "broken"
    cells = "".join(f"<td>{escape(text)}</td>" for text in _cells(row))
    return f'<tr class="{result}"><td>{result}</td>{cells}</tr>'


def _cells(row: Row) -> Iterator[str]:
    yield from (row.expectation, row.severity, row.observed, row.why)


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Expectations of the training set</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid #ddd; padding: .3em .8em .3em 0; text-align: left }
.broken td:first-child { color: #b00020; font-weight: bold }
</style>
</head>
<body>
<h1>Expectations of the training set</h1>
<table>
<tr><th>result</th><th>expectation</th><th>severity</th><th>observed</th><th>why</th></tr>"""
_FOOT = "</table>\n</body>\n</html>\n"
