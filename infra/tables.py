"""Tables for a terminal of any width: no number, name or variable is ever cut or broken.

A table that does not fit is printed as blocks, one for each row, with a line for each column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2  # between columns, and before the lines of a block


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """`number`: stands at the right. `prose`: may be broken between its words; no other column
    may."""

    name: str
    number: bool = False
    prose: bool = False


def numbers(*names: str) -> tuple[TableColumn, ...]:
    """Columns of numbers."""
    return tuple(TableColumn(name=name, number=True) for name in names)


def words(*names: str) -> tuple[TableColumn, ...]:
    """Columns of names and other texts that are never broken."""
    return tuple(TableColumn(name=name) for name in names)


def prose(name: str) -> TableColumn:
    """A column of sentences."""
    return TableColumn(name=name, prose=True)


def print_table(
    console: Console,
    columns: Sequence[TableColumn],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str = "",
) -> None:
    """Print the rows as a table where it fits, else as blocks. Texts are printed as they are."""
    cells = [[Text(c) if isinstance(c, str) else c for c in row] for row in rows]
    widths = [_least_width(column, [r[i] for r in cells]) for i, column in enumerate(columns)]
    if title:
        console.print(Text(title, style="italic"))
    if sum(widths) + _GAP * (len(widths) - 1) <= console.width:
        console.print(_table(columns, widths, cells))
    else:
        _print_blocks(console, columns, cells)


def _least_width(column: TableColumn, cells: Sequence[Text]) -> int:
    """As wide as the longest word of the heading, and as the longest cell, or its longest word."""
    texts = [cell.plain for cell in cells]
    if column.prose:
        texts = [word for text in texts for word in text.split()]
    return max(map(len, [*column.name.split(), *texts]), default=0)


def _table(
    columns: Sequence[TableColumn], widths: Sequence[int], cells: Sequence[Sequence[Text]]
) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.name,
            justify="right" if column.number else "left",
            min_width=width,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    return table


def _print_blocks(
    console: Console, columns: Sequence[TableColumn], cells: Sequence[Sequence[Text]]
) -> None:
    """The first column is the heading of each block; empty cells are left out."""
    width = max(len(column.name) for column in columns[1:])
    for heading, *rest in cells:
        console.print(heading, style="bold", soft_wrap=True)
        for column, cell in zip(columns[1:], rest, strict=True):
            if cell.plain:
                name = Text(f"{'':{_GAP}}{column.name:{width}}{'':{_GAP}}")
                _print_line(console, name, cell, prose=column.prose)


def _print_line(console: Console, name: Text, cell: Text, *, prose: bool) -> None:
    """A name and its value; sentences continue below themselves where there is room for words."""
    if prose and console.width > 2 * len(name):
        lines = cell.wrap(console, console.width - len(name))
        for place, line in enumerate(lines):
            console.print(name if place == 0 else " " * len(name), line, sep="", soft_wrap=True)
    else:
        console.print(name + cell, soft_wrap=True)
