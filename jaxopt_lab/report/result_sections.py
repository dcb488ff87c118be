"""Sections about the result: headline, test rows, winner, cost."""

from typing import TYPE_CHECKING, Any

from jaxopt_lab.core.status import Status
from jaxopt_lab.report import prediction_figures, result_figures, tables, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.words import plain

if TYPE_CHECKING:
    from jaxopt_lab.report.sections import Page

_ORDER = ("log_rmse", "rmse", "mae", "r2", "log_loss", "accuracy", "macro_f1")


def headline(page: "Page", contents: Contents, source: str) -> None:
    """The verdict in a sentence, the numbers that matter, and all models side by side."""
    scores = model_scores(contents)
    page.body += f'<p class="lead">{verdict(contents, scores)}</p>'
    page.body += f'<p class="note">{_setting(contents, source)}</p>'
    page.body += f'<div class="tiles">{"".join(_tiles(contents, scores))}</div>'
    metric = main_metric(contents, scores)
    if not scores or metric is None:
        return
    figure = result_figures.models(contents, scores, metric)
    page.figures.append(figure)
    note = "Every model saw the same training rows and the same transformed target."
    cards = [
        tables.card("Models side by side", tables.plot(figure)),
        tables.card("Test scores", _score_table(scores), note=note),
    ]
    page.nav.append(("result", "Result"))
    page.body += f'<section id="result"><div class="cards">{"".join(cards)}</div></section>'


def model_scores(contents: Contents) -> dict[str, dict[str, float]]:
    """Model -> metric -> test score: ours first."""
    test, baselines = contents.best.get("test", {}), contents.best.get("baselines", {})
    names = [n for n in ("ensemble", "single") if n in test]
    return {**{n: test[n] for n in names}, **baselines}


def main_metric(contents: Contents, scores: dict[str, dict[str, float]]) -> str | None:
    """The study's metric, if the models have it; else the first they have."""
    found = next(iter(scores.values()), {})
    order = (contents.metric, *_ORDER)
    return next((m for m in order if m in found), None)


def verdict(contents: Contents, scores: dict[str, dict[str, float]]) -> str:
    """One sentence: what came out, against the best baseline."""
    metric = main_metric(contents, scores)
    if metric is None:
        counts = _counts(contents)
        return f"{counts[Status.COMPLETED]} trials are complete; the result is not written yet."
    ours = [n for n in ("ensemble", "single") if metric in scores.get(n, {})]
    others = {n: s[metric] for n, s in scores.items() if n not in ours and metric in s}
    if not ours:
        return "No test scores."
    value = scores[ours[0]][metric]
    name = words.metric(metric)
    what = "The ensemble" if ours[0] == "ensemble" else "The tuned network"
    text = f"{what} reaches a test {name} of <b>{words.number(value)}</b>"
    if not others:
        return f"{text}."
    higher = metric in words.HIGHER
    rival = (max if higher else min)(others, key=lambda n: others[n])
    change = (value - others[rival]) / max(abs(others[rival]), 1e-300)
    side = "better" if (change > 0) is higher else "worse"
    against = (
        f"the best baseline, {plain(words.model(rival).lower())} ({words.number(others[rival])})"
    )
    if abs(change) < 5e-4:
        return f"{text}, level with {against}."
    return f"{text}: {abs(change):.1%} {side} than {against}."


def _setting(contents: Contents, source: str) -> str:
    settings, task = contents.settings, contents.task
    parts = [f"{plain(task.get('task', 'study'))} on {plain(source)}".capitalize()]
    if settings.get("num_folds"):
        folds = settings["num_folds"]
        parts.append(f"{folds}-fold cross-validation" if folds > 1 else "one hold-out split")
    if settings.get("budget"):
        parts.append(f"{settings['budget']} epochs")
    if task.get("test_fraction"):
        parts.append(f"{task['test_fraction']:.0%} of the rows held out for the test")
    if task.get("log_target"):
        parts.append(f"learned on the logarithm of {plain(contents.target)}")
    return " · ".join(parts)


def _counts(contents: Contents) -> dict[Status, int]:
    known = contents.best.get("trials")
    if known and not contents.trials:
        return {s: int(known.get(s, 0)) for s in Status}
    return {s: sum(t["status"] == s for t in contents.trials) for s in Status}


def _tiles(contents: Contents, scores: dict[str, dict[str, float]]) -> list[str]:
    found, best = [], contents.best
    metric = main_metric(contents, scores)
    for name, kind in (("ensemble", "good"), ("single", "accent")):
        if metric is not None and metric in scores.get(name, {}):
            label = f"{words.model(name)}, test {words.metric(metric)}"
            more = next((m for m in ("r2", "accuracy") if m in scores[name] and m != metric), None)
            under = f"{words.metric(more)} {words.number(scores[name][more], 3)}" if more else ""
            found.append(tables.tile(label, words.number(scores[name][metric]), under, kind))
    validation = best.get("validation", {})
    if validation.get("mean") is not None:
        error = validation.get("standard_error")
        under = f"± {words.number(error, 2)} over {len(validation.get('folds', []))} folds"
        label = f"Validation {words.metric(contents.metric)}"
        found.append(tables.tile(label, words.number(validation["mean"]), under if error else ""))
    counts = _counts(contents)
    under = f"{counts[Status.INFEASIBLE]} infeasible, {counts[Status.STOPPED]} stopped"
    found.append(tables.tile("Trials", str(sum(counts.values())), under))
    seconds = best.get("seconds", {})
    if "total" in seconds:
        under = f"{words.seconds(seconds['compile'])} compiling" if "compile" in seconds else ""
        found.append(tables.tile("Time", words.seconds(seconds["total"]), under))
    if best.get("parameters"):
        found.append(tables.tile("Parameters", f"{best['parameters']:,}", "of the tuned network"))
    return found


def _score_table(scores: dict[str, dict[str, float]]) -> str:
    metrics = [m for m in _ORDER if any(m in s for s in scores.values())]
    metrics += sorted({m for s in scores.values() for m in s} - set(metrics))
    top = {}
    for metric in metrics:
        known = [s[metric] for s in scores.values() if s.get(metric) is not None]
        top[metric] = (max if metric in words.HIGHER else min)(known, default=None)
    rows = []
    for name, mine in scores.items():
        cells = [f'<span class="dot {plain(name)}"></span>{plain(words.model(name))}']
        for metric in metrics:
            text = words.number(mine.get(metric))
            cells.append(f"<b>{text}</b>" if mine.get(metric) == top[metric] else text)
        rows.append(cells)
    head = ["Model", *(words.metric(m) for m in metrics)]
    return tables.table(head, rows, numeric=range(1, len(head)))


def test_rows(page: "Page", contents: Contents) -> None:
    """Predictions of the test rows against the truth."""
    figures = prediction_figures.predictions(contents)
    page.figures += figures
    first = "Predicted against true" if contents.is_regression else "Confusion matrix"
    titles = {"predicted": first, "residuals": "Residuals"}
    kind = "wide" if len(figures) == 1 else ""
    cards = [tables.card(titles[f.name], tables.plot(f), kind=kind) for f in figures]
    note = "Rows that no network saw in training and no choice was made on."
    page.section("test", "Test rows", "Test rows", note, cards)


def winner(page: "Page", contents: Contents) -> None:
    """Its hyperparameters, folds, curves, and optimizer as code."""
    best, cards = contents.best, []
    row = next((t for t in contents.trials if t["trial_id"] == contents.winner), None)
    config = best.get("hyperparameters") or (row["config"] if row else {})
    names = list(contents.space.names) if contents.space else []
    shown = [*(n for n in names if n in config), *(n for n in config if n not in names)]
    if config:
        items = [(words.title(n), words.number(config[n])) for n in shown]
        again = (
            "; chosen after reruns with other seeds"
            if "rerun" in best.get("validation", {})
            else ""
        )
        note = f"Trial {contents.winner}{again}. What was searched stands first."
        cards.append(tables.card("Hyperparameters", tables.pairs(items), note=note))
    right = [_folds(contents), _optax(contents)]
    cards.append(f"<div>{''.join(right)}</div>" if any(right) else "")
    figure = result_figures.winner_curves(contents)
    if figure:
        page.figures.append(figure)
        note = "Solid: validation; dotted: training (with dropout). A widening gap is overfitting."
        note += _unsteady(contents)
        cards.append(tables.card("Its curves", tables.plot(figure), note=note, kind="wide"))
    page.section("winner", "Winner", "The winner", "", cards)


def _unsteady(contents: Contents) -> str:
    """A sentence that names the command for a winner whose curve fluctuates; "" if it is calm."""
    from jaxopt_lab.stabilization import HEALTHY, fluctuation

    num_folds = int(contents.settings.get("num_folds", 1))
    losses = [
        curves["loss"]
        for (trial_id, fold), curves in contents.members.items()
        if trial_id == contents.winner and fold < num_folds and "loss" in curves
    ]
    long = [c for c in losses if len(c) >= 2 * fluctuation.MIN_POINTS and (c > 0).all()]
    if not long:
        return ""
    spread = sorted(fluctuation.measure(c).spread for c in long)[len(long) // 2]
    if spread <= HEALTHY:
        return ""
    command = f"jaxopt-lab stabilize --study {contents.directory} --trial {contents.winner}"
    return f" The validation loss stands {spread:.0%} off its trend: {command} finds out why."


def _folds(contents: Contents) -> str:
    validation = contents.best.get("validation", {})
    folds = [(f"fold {i + 1}", words.number(s)) for i, s in enumerate(validation.get("folds", []))]
    rerun = [
        (f"other seed, fold {i + 1}", words.number(s))
        for i, s in enumerate(validation.get("rerun", []))
    ]
    if not folds:
        return ""
    title = f"Validation {words.metric(contents.metric)}"
    return tables.card(title, tables.pairs([*folds, *rerun])) + '<div style="height:16px"></div>'


def _optax(contents: Contents) -> str:
    text = contents.best.get("optax")
    if not text:
        return ""
    return tables.card("Its optimizer", tables.code(text), note="To paste into your own code.")


def cost(page: "Page", contents: Contents) -> None:
    """Where the seconds went, what a prediction costs, and on what all this ran."""
    cards = []
    figure = result_figures.cost(contents)
    if figure:
        page.figures.append(figure)
        cards.append(tables.card("Where the seconds went", tables.plot(figure)))
    items = _efficiency(contents.best)
    if items:
        cards.append(tables.card("Efficiency", tables.pairs(items)))
    cards.append(_programs(contents))
    settings = contents.settings
    keys = ("seed", "num_folds", "budget", "device", "num_devices")
    about = [(words.title(k), settings[k]) for k in keys if k in settings]
    about += [(words.title(k), v) for k, v in contents.task.items() if k not in ("kind", "sha256")]
    about += list(contents.best.get("versions", {}).items())
    if about:
        cards.append(tables.card("Settings and versions", tables.pairs(about), kind="wide"))
    page.section("cost", "Cost", "Cost and setting", "", cards)


def _programs(contents: Contents) -> str:
    """What each program was expected to cost, and what it did."""
    expected = contents.settings.get("expected", {})
    widths = contents.settings.get("widths", {})
    rows = []
    for name, seconds in expected.items():
        mine = [wave for wave in contents.waves if wave["program"] == name]
        compiling = sum(wave["compile_seconds"] for wave in mine)
        running = sum(wave["seconds"] - wave["compile_seconds"] for wave in mine)
        rows.append(
            (
                words.plain(name),
                str(sum(wave["jobs"] for wave in mine)),
                str(widths.get(name, "")),
                f"{seconds['compile']:.1f} / {compiling:.1f}",
                f"{seconds['run']:.1f} / {max(running, 0.0):.1f}",
            )
        )
    if not rows:
        return ""
    head = ("Program", "Networks", "Cohort width", "Compiling (s)", "Training (s)")
    note = (
        "Expected / real, expected from the stored costs of the machine. Real compiling is what "
        "training waited for it: little for a program from the cache, or compiled while others "
        "trained. Off by much? jaxopt-lab calibrate measures this machine."
    )
    body = tables.table(head, rows, numeric=range(1, len(head)))
    return tables.card("Programs, expected and real", body, note=note, kind="wide")


def _efficiency(best: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of words and numbers, nested tables flattened."""
    found: list[tuple[str, str]] = []
    for key, value in best.get("efficiency", {}).items():
        if isinstance(value, dict):
            inner = value.items()
            found += [(f"{words.title(key)}, {words.title(k)}", words.number(v)) for k, v in inner]
        else:
            found.append((words.title(key), words.number(value)))
    members = best.get("ensemble", {})
    if isinstance(members, dict) and members.get("networks"):
        found.append(("networks in the ensemble", words.number(members["networks"])))
    return found
