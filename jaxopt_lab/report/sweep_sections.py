"""Sections about the result of a problem that is no table: headline, best trial, its metrics."""

from markupsafe import Markup

from jaxopt_lab.core.status import Status
from jaxopt_lab.report import tables, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.metric_figures import metric_curves
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined


def headline(page: Page, contents: Contents) -> None:
    """The best trial in a sentence, and the numbers that matter."""
    page.body += html('<p class="lead">{}</p>', _verdict(contents))
    page.body += html('<p class="note">{}</p>', _setting(contents))
    page.body += html('<div class="tiles">{}</div>', joined(_tiles(contents)))


def _result(contents: Contents) -> tuple[float | None, float | None]:
    """Score of the best trial and its standard error, as the problem has them."""
    known = contents.best.get("validation", {})
    if known.get("mean") is not None:
        return known["mean"], known.get("standard_error")
    row = next((t for t in contents.trials if t["trial_id"] == contents.winner), None)
    return (contents.shown(row["score"]), row["standard_error"]) if row else (None, None)


def _verdict(contents: Contents) -> Markup:
    score, error = _result(contents)
    if score is None:
        return Markup("No trial is complete yet.")
    around = f" ± {words.number(error, 2)}" if error else ""
    return html(
        "Trial {} is the best: {} of <b>{}</b>{} ({}).",
        contents.winner,
        contents.metric,
        words.number(score),
        around,
        words.better(contents.sign),
    )


def _setting(contents: Contents) -> str:
    settings, unit, parts = contents.settings, contents.unit, []
    if contents.task.get("source"):
        parts.append(f"{contents.task.get('kind', 'problem')} {contents.task['source']}")
    if settings.get("num_folds", 1) > 1:
        parts.append(f"{settings['num_folds']} splits or seeds of each trial")
    if settings.get("budget"):
        parts.append(f"{settings['budget']} {unit}{'' if settings['budget'] == 1 else 's'} each")
    return " · ".join(parts)


def _tiles(contents: Contents) -> list[Markup]:
    score, error = _result(contents)
    found = []
    if score is not None:
        under = f"± {words.number(error, 2)} standard error" if error else ""
        found.append(tables.tile(f"Best {contents.metric}", words.number(score), under, "good"))
    counts = {s: sum(t["status"] == s for t in contents.trials) for s in Status}
    if not contents.trials:
        counts |= {s: int(contents.best.get("trials", {}).get(s, 0)) for s in Status}
    under = f"{counts[Status.INFEASIBLE]} infeasible, {counts[Status.STOPPED]} stopped"
    found.append(tables.tile("Trials", str(sum(counts.values())), under))
    seconds = contents.best.get("seconds", {})
    if "total" in seconds:
        under = f"{words.seconds(seconds['compile'])} compiling" if "compile" in seconds else ""
        found.append(tables.tile("Time", words.seconds(seconds["total"]), under))
    return found


def best(page: Page, contents: Contents) -> None:
    """The best trial: hyperparameters, what each split or seed came to, curves of its metrics."""
    cards: list[str] = []
    row = next((t for t in contents.trials if t["trial_id"] == contents.winner), None)
    config = contents.best.get("hyperparameters") or (row["config"] if row else {})
    if config:
        names = list(contents.space.names) if contents.space else []
        shown = [*(n for n in names if n in config), *(n for n in config if n not in names)]
        items = [(words.title(n), words.number(config[n])) for n in shown]
        note = f"Trial {contents.winner}. What was searched stands first."
        cards.append(tables.card("Hyperparameters", tables.pairs(items), note=note))
    scores = contents.best.get("validation", {}).get("folds", [])
    if len(scores) > 1:
        runs = [(f"run {i + 1}", words.number(score)) for i, score in enumerate(scores)]
        note = "One for each split or seed."
        cards.append(tables.card(contents.metric, tables.pairs(runs), note=note))
    page.section("best", "Best trial", "The best trial", "", cards)
    figures = metric_curves(contents)
    page.figures += figures.values()
    cards = [tables.card(name, tables.plot(figure)) for name, figure in figures.items()]
    note = "The best trials; the very best, all its splits and seeds, in front."
    page.section("metrics", "Metrics", "Metrics of the best trials", note, cards)
