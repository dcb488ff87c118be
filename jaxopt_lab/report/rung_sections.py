"""The section about a scheduler: who was stopped where, and what that saved."""

from jaxopt_lab.report import rung_figures, tables, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.page_parts import Page

#: Comparisons listed at most.
MAX_ROWS = 60


def rungs(page: Page, contents: Contents) -> None:
    """How far each trial came, and every comparison."""
    figure = rung_figures.lengths(contents)
    if figure is None:
        return
    page.figures.append(figure)
    note = (
        "A line per trial, best first in each bracket: trials that were compared with each other."
    )
    cards = [tables.card("How far trials came", tables.plot(figure), note=note, kind="wide")]
    unit, metric = f"{contents.unit}s", words.metric(contents.metric)
    compared = ("Bracket", f"After {unit}", "Compared", "Went on")
    head = (*compared, f"Best {metric}", "Median", "Worst that went on")
    rows = rung_figures.comparison_rows(contents)
    body = tables.table(head, rows[:MAX_ROWS], numeric=range(len(head)))
    left = f"The first {MAX_ROWS} of {len(rows)}." if len(rows) > MAX_ROWS else ""
    cards.append(tables.card("Comparisons", body, note=left, kind="wide scroll"))
    title = "Who was stopped, and when"
    page.section("rungs", "Stopping", title, rung_figures.saved(contents), cards)
