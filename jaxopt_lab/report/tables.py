"""HTML of tables, tiles and cards; every string that is no `Markup` is text and is escaped."""

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from jaxopt_lab.report.figures import Figure
from jaxopt_lab.report.words import html, joined

#: A text of more characters is broken into lines, but not into many short ones.
LONG = 36


def tile(label: str, value: str, under: str = "", kind: str = "") -> Markup:
    """One number that matters."""
    return html(
        '<div class="tile {}"><div class="label">{}</div>'
        '<div class="value">{}</div><div class="under">{}</div></div>',
        kind,
        label,
        value,
        under,
    )


def card(title: str, *parts: str, note: str = "", kind: str = "") -> Markup:
    """A titled box; `note` is a sentence below the title."""
    head = html("<h3>{}</h3>", title) if title else ""
    below = html('<p class="note">{}</p>', note) if note else ""
    return html('<div class="card {}">{}{}{}</div>', kind, head, below, joined(parts))


def plot(figure: Figure) -> Markup:
    """Where the page's script draws a figure."""
    return html(
        '<div class="plot" id="plot-{}" style="min-height:{}px"></div>', figure.name, figure.height
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Iterable[int] = (),
    classes: Sequence[str] = (),
) -> Markup:
    """A table.

    Args:
      head: titles of the columns; all empty for none.
      rows: cells, text or `Markup`.
      numeric: columns that are aligned right.
      classes: CSS class per row.
    """
    right = set(numeric)

    def kind(column: int, cell: str) -> str:
        if column in right:
            return Markup(" class=n")
        is_long = len(cell) > LONG and not isinstance(cell, Markup)
        return Markup(" class=long") if is_long else ""

    def cells(row: Sequence[str], tag: str) -> Markup:
        return joined(
            html("<{}{}>{}</{}>", tag, kind(i, cell), cell, tag) for i, cell in enumerate(row)
        )

    top = html("<thead><tr>{}</tr></thead>", cells(head, "th")) if any(head) else ""
    body = joined(
        html('<tr class="{}">{}</tr>', classes[i] if i < len(classes) else "", cells(row, "td"))
        for i, row in enumerate(rows)
    )
    return html('<div class="scroll"><table>{}<tbody>{}</tbody></table></div>', top, body)


def pairs(items: Iterable[tuple[str, Any]]) -> Markup:
    """A table of names and values."""
    return table(("", ""), [(k, str(v)) for k, v in items], numeric=[1])


def broken(text: str) -> str:
    """One long call, an argument per line down to the second level; the same code."""
    if "\n" in text or len(text) < 80:
        return text
    out, depth, skip = "", 0, False
    for i, char in enumerate(text):
        if skip and char == " ":
            continue
        skip = False
        depth += (char in "([{") - (char in ")]}")
        if char == ")" and depth == 0 and i == len(text) - 1:
            out += ",\n"
        out += char
        if (char == "(" and depth == 1) or (char == "," and depth == 1):
            out, skip = f"{out}\n    ", True
    return out


def code(text: str) -> Markup:
    """Text to copy, with a button that does."""
    return html(
        '<div class="code"><button class="copy" type="button">Copy</button><pre>{}</pre></div>',
        broken(text),
    )


def pill(text: str, kind: str = "") -> Markup:
    """A small label."""
    return html('<span class="pill {}">{}</span>', kind or text, text)
