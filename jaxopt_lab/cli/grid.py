"""A table for terminals of any width: a column that does not fit is left out, never its digits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a grid.

    Attributes:
      title: lines of text above it.
      cells: one text per row.
      right: whether it is aligned right, as numbers are.
      rank: among those that do not fit, columns of the greatest rank are left out first, the
        rightmost of them before the others.
      looks: style of each cell on a terminal, beside that of its row.
    """

    title: str
    cells: Sequence[str]
    right: bool = True
    rank: int = 0
    looks: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Characters of the widest line."""
        return max(map(len, (*self.title.split("\n"), *self.cells)))


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Leave out columns until the others fit, but never the last one.

    Args:
      columns: from left to right.
      width: of the terminal, in characters.
    """
    kept = list(columns)
    while len(kept) > 1 and _width(kept) > width:
        rank = max(column.rank for column in kept)
        last = max(i for i, column in enumerate(kept) if column.rank == rank)
        del kept[last]
    return kept


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def print_grid(
    console: "Console", columns: Sequence[Column], styles: Sequence[str] = ()
) -> list[Column]:
    """Print the columns that fit, with a line under the titles.

    Args:
      console: where to.
      columns: from left to right, with as many cells each.
      styles: of the rows, for a terminal.

    Returns:
      The columns that did not fit.
    """
    from rich.text import Text

    kept = fitting(columns, console.width)
    widths = [column.width for column in kept]
    height = max(column.title.count("\n") for column in kept) + 1
    titles = [
        [*[""] * (height - len(lines)), *lines]
        for lines in (column.title.split("\n") for column in kept)
    ]
    head = [(" " * _GAP).join(_padded(kept, widths, [t[i] for t in titles])) for i in range(height)]
    head.append("─" * _width(kept))
    rows = [_padded(kept, widths, row) for row in zip(*(c.cells for c in kept), strict=True)]
    if not console.is_terminal:
        lines = [*head, *((" " * _GAP).join(row) for row in rows)]
        console.file.write("\n".join(line.rstrip() for line in lines) + "\n")
        return [column for column in columns if column not in kept]
    for i, line in enumerate(head):
        console.print(Text(line.rstrip(), style="bold" if i < height else ""), soft_wrap=True)
    for i, row in enumerate(rows):
        cells = Text(style=styles[i] if styles else "")
        for j, (column, cell) in enumerate(zip(kept, row, strict=True)):
            cells.append(" " * _GAP if j else "")
            cells.append(cell, column.looks[i] if column.looks else None)
        console.print(cells, soft_wrap=True)
    return [column for column in columns if column not in kept]


def _padded(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> list[str]:
    return [
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, width, cell in zip(columns, widths, cells, strict=True)
    ]
