"""The page from top to bottom: each section takes what it needs and is left out without it."""

from pathlib import Path

from jaxopt_lab.report import sweep_sections, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import describe
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.population_sections import population
from jaxopt_lab.report.result_sections import (
    cost,
    effects,
    ensemble,
    headline,
    test_rows,
    winner,
)
from jaxopt_lab.report.rung_sections import rungs
from jaxopt_lab.report.search_sections import matters, ranges, search, trials_table


def compose(contents: Contents) -> Page:
    """Make the page of a study."""
    source = contents.settings.get("table path", "")
    name = Path(str(source)).name or contents.directory.resolve().name
    page = Page(f"{name} · jaxopt-lab")
    metric = words.metric(contents.metric)
    page.texts = {str(t["trial_id"]): describe(t, metric, contents.sign) for t in contents.drawn}
    if contents.is_table:
        page.title = f"{contents.target} · {name} · jaxopt-lab"
        page.body += words.html("<h1>Tuning a network for {}</h1>", contents.target)
    else:
        page.body += words.html("<h1>{}</h1>", name)
    if contents.was_swept:
        sweep_sections.headline(page, contents)
        sweep_sections.best(page, contents)
    else:
        headline(page, contents, name)
        test_rows(page, contents)
        effects(page, contents)
        winner(page, contents)
        ensemble(page, contents)
    search(page, contents)
    rungs(page, contents)
    population(page, contents)
    matters(page, contents)
    ranges(page, contents)
    trials_table(page, contents)
    cost(page, contents)
    missing = words.joined(words.html("<p>{}</p>", text) for text in contents.missing)
    found = contents.best.get("versions", {})
    versions = " · ".join(f"{k} {v}" for k, v in found.items())
    page.footer = missing + words.html(
        "<p>Made by jaxopt-lab from the study's directory alone. {}</p>", versions
    )
    return page
