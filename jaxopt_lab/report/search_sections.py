"""Sections about the search: its course, what matters, the ranges, the trials."""

from typing import Any

import numpy as np
from markupsafe import Markup

from jaxopt_lab import analysis
from jaxopt_lab.analysis.curve_findings import FEWEST_TRIALS
from jaxopt_lab.core.status import Status
from jaxopt_lab.report import parallel_figure, result_figures, search_figures, tables, words
from jaxopt_lab.report.contents import MAX_CURVES, Contents
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined
from jaxopt_lab.spaces.distributions import Choice, Distribution
from jaxopt_lab.spaces.space import SearchSpace

#: Rows of the table of trials.
TOP = 20
_KINDS = {"narrow": "widen", "diverging": "do not widen", "limit": "at the limit"}


def search(page: Page, contents: Contents) -> None:
    """Best so far, curves of all trials, best of k."""
    if not contents.finished:
        return
    figure = search_figures.best_so_far(contents)
    page.figures.append(figure)
    cards = [tables.card("Best so far", tables.plot(figure), kind="wide", note=_cap_note(contents))]
    curves = result_figures.all_curves(contents) if contents.is_table else None
    if curves:
        page.figures.append(curves)
        note = "Validation loss on the first fold, the winner in front."
        if len(contents.finished) > MAX_CURVES:
            note += f" The best {MAX_CURVES} trials."
        cards.append(tables.card("Curves of all trials", tables.plot(curves), note=note))
    fronts = search_figures.score_against_size(contents)
    if fronts:
        page.figures.append(fronts)
        note = "Completed trials; the line joins those that no other is better than in both."
        cards.append(tables.card("Score against size", tables.plot(fronts), note=note))
    first = contents.first_phase
    if np.isfinite(contents.scores[first]).any():
        curve = analysis.best_of_k(contents.scores[first], contents.infeasible[first])
        figure = search_figures.budget(contents, curve, contents.finished[0]["phase"])
        page.figures.append(figure)
        note = contents.analysis.get("budget") or curve.verdict
        cards.append(tables.card("Was the budget enough?", tables.plot(figure), note=note))
    cards.append(_curve_findings(contents))
    page.section("search", "Search", "The search", "", cards)


def _curve_findings(contents: Contents) -> Markup:
    """What curves say, unless there are too few of them."""
    if contents.space is None:
        return Markup()
    found = contents.analysis["curves"]
    if found["findings"]:
        return tables.card("What the curves say", _listed(found["findings"]), kind="wide")
    if found["trials"] < FEWEST_TRIALS:
        return Markup()
    note = (
        f"Of {found['trials']} trials: runs are neither too long nor too short, the best do not "
        "overfit, and no training loss of theirs rises."
    )
    return tables.card("What the curves say", note=note, kind="wide")


def _listed(findings: list[dict[str, Any]]) -> Markup:
    """Findings with what each comes to in front."""
    items = joined(
        html(
            "<li>{}<span>{}</span></li>",
            tables.pill(_KINDS.get(f["kind"], f["kind"]), f["kind"]),
            f["text"],
        )
        for f in findings
    )
    return html('<ul class="findings">{}</ul>', items)


def _cap_note(contents: Contents) -> str:
    window = search_figures.score_window(contents.scores)
    above = int(np.sum(contents.scores > window[1]))
    if not above:
        return _drawn_note(contents)
    word = "trial scores" if above == 1 else "trials score"
    beyond, end = ("above", "top") if contents.sign > 0 else ("below", "bottom")
    note = f"{above} {word} {beyond} the axis: triangles at its {end}. Point at one for its score."
    return note + _drawn_note(contents)


def _drawn_note(contents: Contents) -> str:
    """Says so where not every trial is drawn."""
    num, drawn = len(contents.finished), len(contents.drawn)
    if num == drawn:
        return ""
    return f" {drawn:,} of {num:,} trials are drawn: the best, and a random part of the others."


def matters(page: Page, contents: Contents) -> None:
    """Importance, findings in words, infeasible regions, parallel coordinates."""
    space = contents.space
    if space is None or not contents.finished or not space.num_dims:
        return
    cards: list[str] = [_importance(page, contents.analysis), _findings(contents)]
    regions = analysis.infeasible_by_region(space, contents.configs, contents.infeasible)
    figure = result_figures.regions(regions)
    if figure:
        page.figures.append(figure)
        note = "Infeasible trials of all trials in each part of each range; the redder the more."
        cards.append(
            tables.card(
                "Where trials diverge", tables.plot(figure), note=note, kind="wide sideways scroll"
            )
        )
    figure = parallel_figure.parallel(contents)
    if figure:
        page.figures.append(figure)
        note = "A line per trial, from its hyperparameters to its score; stronger is better."
        cards.append(
            tables.card("All together", tables.plot(figure), note=note, kind="wide sideways scroll")
        )
    page.section("matters", "What matters", "What matters", "", cards)


def _importance(page: Page, found: dict[str, Any]) -> str:
    if not any(found["importance"].values()):
        return tables.card("Importance", note="Too few different trials to tell.")
    figure = result_figures.importance(found["importance"], found["interactions"])
    page.figures.append(figure)
    note = "How much of the differences between trials each explains alone (functional ANOVA)."
    if found.get("fit") is not None and found["fit"] < 0.2:
        note += " The trials hardly follow from their hyperparameters: read this as a hint only."
    return tables.card("Importance", tables.plot(figure), note=note)


def _findings(contents: Contents) -> str:
    """Boundary findings, as `best.json` has them, and what became of the ranges."""
    space = contents.space
    assert space is not None
    found = contents.analysis["findings"]
    if found:
        body = _listed(found)
    else:
        phase = words.phase(contents.finished[0]["phase"])
        text = f"The best trials of the {phase} crowd no end of any range."
        body = html('<p class="note">{}</p>', text)
    refined: str = ""
    if contents.refined is not None:
        refined = Markup('<h3 class="later">Refined ranges</h3>') + _ranges(space, contents.refined)
    return tables.card("Are the ranges right?", body, refined)


def _ranges(space: SearchSpace, refined: SearchSpace) -> str:
    rows = []
    for name, dist in space.parameters.items():
        now: Any = refined.parameters.get(name, refined.fixed.get(name))
        text = "no longer active" if now is None else _range_text(now)
        rows.append((words.title(name), _range_text(dist), text))
    return tables.table(("Hyperparameter", "Wide search", "Refined"), rows)


def _range_text(dist: Any) -> str:
    if not isinstance(dist, Distribution):
        return words.number(dist, 3)
    if isinstance(dist, Choice):
        return ", ".join(words.number(v, 6) for v in dist.ranked)
    low, high = dist.extremes
    return f"{words.number(low, 3)} to {words.number(high, 3)}"


def ranges(page: Page, contents: Contents) -> None:
    """A slice and an isolation chart per hyperparameter."""
    space = contents.space
    if space is None or not np.isfinite(contents.scores).any() or not space.num_dims:
        return
    slices = search_figures.slices(contents)
    found = analysis.isolation(space, contents.configs, contents.scores, contents.infeasible)
    isolated = search_figures.isolation(contents, found)
    page.figures += [*slices, *isolated]

    def grid(title: str, note: str, figures: list[Any]) -> str:
        cards = joined(tables.card("", tables.plot(f)) for f in figures)
        return html(
            '<div class="across"><h3>{}</h3><p class="note">{}</p>'
            '<div class="cards three">{}</div></div>',
            title,
            note,
            cards,
        )

    cards = [
        grid(
            "Slices",
            "Every trial at its value; × at the "
            + ("top" if contents.sign > 0 else "bottom")
            + " is infeasible, hollow was stopped early, ★ is the winner."
            + _drawn_note(contents),
            slices,
        ),
        grid(
            "Isolation",
            "The best trial of each part of a range, everything else optimised away: where this "
            "line is flat, the hyperparameter hardly matters.",
            isolated,
        ),
    ]
    page.section("ranges", "Hyperparameters", "One hyperparameter at a time", "", cards)


def trials_table(page: Page, contents: Contents) -> None:
    """The best trials, then how the others ended."""
    if not contents.trials:
        return
    last = {Status.COMPLETED: 0, Status.STOPPED: 1, Status.INFEASIBLE: 2, Status.PENDING: 3}

    def key(trial: dict[str, Any]) -> tuple[int, float, int]:
        score = np.inf if trial["score"] is None else trial["score"]
        return last[trial["status"]], score, trial["trial_id"]

    shown = sorted(contents.trials, key=key)[:TOP]
    names = list(contents.space.names) if contents.space else []
    metric = words.metric(contents.metric)
    head = [
        "Trial",
        "Phase",
        "Status",
        metric,
        "±",
        *(joined(words.title(n).split(" "), "<br>") for n in names),
    ]
    rows = [
        [
            str(t["trial_id"]),
            words.phase(t["phase"]).removesuffix(" search"),
            tables.pill(str(t["status"])),
            words.number(contents.shown(t["score"])),
            words.number(t["standard_error"], 2),
            *(words.number(t["config"].get(n), 3) for n in names),
        ]
        for t in shown
    ]
    classes = ["mark" if t["trial_id"] == contents.winner else "" for t in shown]
    body = tables.table(head, rows, numeric=[0, *range(3, len(head))], classes=classes)
    note = html(
        "The first {} of {}; <code>jaxopt-lab show</code> has all. ± is the standard error over "
        "{}.",
        len(shown),
        len(contents.trials),
        "the folds: how much the folds differ, more than how two trials on the same folds do"
        if contents.is_table
        else "the trial's splits and seeds",
    )
    page.section("trials", "Trials", "Best trials", note, [tables.card("", body, kind="wide")])
