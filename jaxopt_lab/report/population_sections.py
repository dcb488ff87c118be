"""The section about populations: lineage as a tree over time, hyperparameters over time."""

from jaxopt_lab.report import population_figures, tables, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined


def population(page: Page, contents: Contents) -> None:
    """Who went on from whom and with which values, of each population."""
    if contents.space is None:
        return
    cards: list[str] = []
    for number, told in enumerate(population_figures.populations(contents)):
        figure = population_figures.tree(contents, told, str(number))
        changing = population_figures.over_time(contents, told, str(number))
        page.figures += [figure, *changing]
        cards.append(tables.card(_title(told), tables.plot(figure), kind="wide", note=_note(told)))
        charts = joined(tables.card("", tables.plot(f)) for f in changing)
        cards.append(html('<div class="across"><div class="cards three">{}</div></div>', charts))
    note = (
        "Members that learn while they train: between generations the worse go on from the state "
        "of a better one, with other values. Scores of trials compare lineages here, so that "
        "importance and slices below say less than for a search of trials that never change."
    )
    page.section("population", "Population", "The population over time", note, cards)


def _title(told: population_figures.Told) -> str:
    row = told.rows[0]
    return f"Lineage of the {words.phase(row['phase'])}, {told.num_members} members"


def _note(told: population_figures.Told) -> str:
    copies = sum(
        parent != trial_id
        for row in told.rows
        for trial_id, parent in zip(row["trials"], row["parents"], strict=True)
    )
    roots = "" if not told.lineage else f" The winner's state began as trial {told.lineage[0]}."
    drawn = len(told.members)
    some = "" if drawn == told.num_members else f" The first {drawn} members are drawn."
    return f"{len(told.rows)} generations, {copies} copies.{roots}{some}"
