"""The page of logged curves: verdict, curves and their trends, evidence, what to measure next."""

import numpy as np

from jaxopt_lab.report import tables, words
from jaxopt_lab.report.figures import Figure, axis, line, log_ticks, paint
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined
from jaxopt_lab.stabilization.fluctuation import trend
from jaxopt_lab.stabilization.logged import CurvesDiagnosis
from jaxopt_lab.stabilization.logged.causes import Finding
from jaxopt_lab.stabilization.logged.diagnosis import RunDiagnosis, bound, why_not, written
from jaxopt_lab.stabilization.logged.measures import FEWEST

#: Runs that are drawn: the one that shows the verdict most, then those before the others.
MOST_DRAWN = 8


def compose(found: CurvesDiagnosis) -> Page:
    """Make the page of a diagnosis of curves."""
    page = Page("Curves · jaxopt-lab")
    page.body += html('<h1>What the curves say</h1><p class="lead">{}</p>', found.sentence)
    page.body += html('<p class="note">{}.</p>', found.certainty)
    drawn = [found.worst, *(run for run in found.runs if run is not found.worst)][:MOST_DRAWN]
    cards = []
    for number, run in enumerate(drawn):
        figure = _curves(run, f"run-{number}")
        page.figures.append(figure)
        note = "" if len(found.runs) == 1 else run.sentence
        cards.append(tables.card(run.run.name, tables.plot(figure), note=note, kind="wide"))
    page.section("curves", "Curves", "Curves and their trends", "", cards)
    _evidence(page, found.worst)
    if len(found.runs) > 1:
        _runs(page, found)
    steps = joined(html("<li>{}</li>", line) for line in found.worst.next_steps)
    if found.worst.next_steps:
        cards = [tables.card("", html("<ol>{}</ol>", steps), kind="wide")]
        page.section("next", "Next", "What to measure next", "", cards)
    page.footer = html("<p>Made by jaxopt-lab from logged curves; nothing was trained.</p>")
    return page


def _curves(found: RunDiagnosis, name: str) -> Figure:
    """The curve that is judged, its trend, and the training loss beside it."""
    run = found.run
    series = run.series[run.main]
    values = np.where(np.isfinite(series.values), series.values, np.nan)
    above = bool((values[np.isfinite(values)] > 0).all())
    data = [line(words.rounded(series.at), words.rounded(values), paint("accent"), name=run.main)]
    if len(values) >= FEWEST and np.isfinite(values).all():
        smooth = np.exp(trend(np.log(values))) if above else trend(values)
        look = {"name": "trend", "line": {"width": 1, "dash": "dash"}}
        data.append(line(words.rounded(series.at), words.rounded(smooth), paint("soft"), **look))
    train = run.series.get("train_loss")
    if train is not None and run.main != "train_loss":
        finite = np.where(np.isfinite(train.values), train.values, np.nan)
        above = above and bool((finite[np.isfinite(finite)] > 0).all())
        look = {"name": "training", "line": {"width": 1}}
        data.append(line(words.rounded(train.at), words.rounded(finite), paint("muted"), **look))
    unit = words.plain(run.unit)
    title = words.plain(run.columns[run.main])
    layout = {
        "xaxis": axis(unit[0].upper() + unit[1:]),
        "yaxis": axis(title, **(log_ticks(values) if above else {})),
    }
    return Figure(name, data, layout, 360)


def _evidence(page: Page, found: RunDiagnosis) -> None:
    def rows(findings: tuple[Finding, ...]) -> list[list[str]]:
        return [
            [
                html("<b>{}</b>", words.title(finding.name)) if not i else "",
                written(check, check.value),
                bound(check),
                check.what,
            ]
            for finding in findings
            for i, check in enumerate(finding.checks)
        ]

    head = ["Cause", "Measured", "Threshold", "What it is"]
    cards = [tables.card("", tables.table(head, rows(found.causes), numeric=[1]), kind="wide")]
    if found.rejected:
        other = [[words.title(f.name), why_not(f)] for f in found.rejected]
        table = tables.table(["Rejected", "Why"], other, numeric=[])
        cards.append(tables.card("Why not another", table, kind="wide"))
    title = f"Evidence of {found.run.name}"
    page.section("evidence", "Evidence", title, "", cards)


def _runs(page: Page, found: CurvesDiagnosis) -> None:
    rows = [
        [
            run.run.name,
            words.title(run.verdict.name),
            f"{run.verdict.confidence:.2f}",
            words.number(run.measures.fluctuation, 3),
            words.number(run.measures.lowest, 4),
            words.number(run.measures.end_over_lowest, 3),
        ]
        for run in found.runs
    ]
    head = ["Run", "Verdict", "Confidence", "Fluctuation", "Lowest", "End over lowest"]
    cards = [tables.card("", tables.table(head, rows, numeric=[2, 3, 4, 5]), kind="wide")]
    page.section("runs", "Runs", "Every run", "", cards)
