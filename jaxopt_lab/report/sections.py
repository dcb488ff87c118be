"""The page from top to bottom: each section takes what it needs and is left out without it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from jaxopt_lab.report import sweep_sections, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import Figure, describe
from jaxopt_lab.report.population_sections import population
from jaxopt_lab.report.result_sections import cost, ensemble, headline, test_rows, winner
from jaxopt_lab.report.rung_sections import rungs
from jaxopt_lab.report.search_sections import matters, ranges, search, trials_table


@dataclass
class Page:
    """What the template takes, gathered section by section.

    Attributes:
      title: of the document, text.
      body: HTML so far.
      footer: HTML.
      nav: (id, label) of each section.
      figures: charts, each with its element in the body.
      texts: what is shown over a trial, by its number.
    """

    title: str
    body: Markup = field(default_factory=Markup)
    footer: Markup = field(default_factory=Markup)
    nav: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    texts: dict[str, Markup] = field(default_factory=dict)

    def section(self, key: str, label: str, title: str, note: str, cards: Sequence[str]) -> None:
        """Add a section of cards, unless there is none."""
        if not any(cards):
            return
        self.nav.append((key, label))
        below = words.html('<p class="note">{}</p>', note) if note else ""
        self.body += words.html(
            '<section id="{}"><h2>{}</h2>{}<div class="cards">{}</div></section>',
            key,
            title,
            below,
            words.joined(cards),
        )


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
