"""HTML of tables, tiles and cards."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxopt_lab.report.figures import Figure
from jaxopt_lab.report.words import plain


def tile(label: str, value: str, under: str = "", kind: str = "") -> str:
    """One number that matters."""
    return (
        f'<div class="tile {kind}"><div class="label">{plain(label)}</div>'
        f'<div class="value">{plain(value)}</div><div class="under">{plain(under)}</div></div>'
    )


def card(title: str, *parts: str, note: str = "", kind: str = "") -> str:
    """A titled box; `note` is a sentence below the title."""
    head = f"<h3>{plain(title)}</h3>" if title else ""
    below = f'<p class="note">{plain(note)}</p>' if note else ""
    return f'<div class="card {kind}">{head}{below}{"".join(parts)}</div>'


def plot(figure: Figure) -> str:
    """Where the page's script draws a figure."""
    size = f"min-height:{figure.height}px"
    return f'<div class="plot" id="plot-{plain(figure.name)}" style="{size}"></div>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Iterable[int] = (),
    classes: Sequence[str] = (),
) -> str:
    """A table; cells are HTML already.

    Args:
      head: titles of the columns; all empty for none.
      rows: cells.
      numeric: columns that are aligned right.
      classes: CSS class per row.
    """
    right = set(numeric)

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in right else ''}>{cell}</{tag}>" for i, cell in enumerate(row)
        )

    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if any(head) else ""
    body = "".join(
        f'<tr class="{classes[i] if i < len(classes) else ""}">{cells(row, "td")}</tr>'
        for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """A table of names and values."""
    return table(("", ""), [(plain(k), plain(v)) for k, v in items], numeric=[1])


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


def code(text: str) -> str:
    """Text to copy, with a button that does."""
    return (
        f'<div class="code"><button class="copy" type="button">Copy</button>'
        f"<pre>{plain(broken(text))}</pre></div>"
    )


def pill(text: str, kind: str = "") -> str:
    """A small label."""
    return f'<span class="pill {kind or text}">{plain(text)}</span>'
