"""What a page is made of, as its sections gather it for the template."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from jaxopt_lab.report import words
from jaxopt_lab.report.figures import Figure


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
