"""Sections about the result: headline, test rows, winner, cost."""

from typing import Any

from markupsafe import Markup

from jaxopt_lab.core.status import Status
from jaxopt_lab.report import prediction_figures, result_figures, tables, words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined

OURS = {"ensemble": "The ensemble", "single": "The tuned network"}
#: What columns with a role do.
_ROLES = {
    "group": "rows of the same {} kept together",
    "time": "validated and tested on later rows by {}",
    "weights": "rows weighted by {}",
}
#: Columns that are drawn.
MOST_EFFECTS = 25
_ORDER = (
    *("scaled_rmse", "scaled_mae", "scaled_huber", "scaled_pinball"),
    *("log_rmse", "log_mae", "log_huber", "log_pinball", "huber", "pinball", "share_below"),
    *("rmse", "mae", "r2", "log_loss", "accuracy", "macro_f1"),
)


def headline(page: Page, contents: Contents, source: str) -> None:
    """The verdict in a sentence, the numbers that matter, and all models side by side."""
    scores = model_scores(contents)
    page.body += html('<p class="lead">{}</p>', verdict(contents, scores))
    page.body += html('<p class="note">{}</p>', _setting(contents, source))
    page.body += html('<div class="tiles">{}</div>', joined(_tiles(contents, scores)))
    metric = main_metric(contents, scores)
    if not scores or metric is None:
        return
    figure = result_figures.models(contents, scores, metric)
    page.figures.append(figure)
    note = "Every model saw the same training rows and the same transformed target."
    note += _intervals(contents.best.get("intervals"))
    if contents.targets:
        note += (
            " The scaled error is of all targets together: each one's error over the scale by "
            "which it is standardised, so that it has no unit. Baselines are fitted to each target."
        )
    note += _calibration(contents.best.get("calibration"))
    cards = [
        tables.card("Models side by side", tables.plot(figure)),
        tables.card("Test scores", _score_table(scores), note=note),
        *(_target_card(name, mine) for name, mine in contents.best.get("targets", {}).items()),
    ]
    page.nav.append(("result", "Result"))
    inside = joined(cards)
    page.body += html('<section id="result"><div class="cards">{}</div></section>', inside)


def model_scores(contents: Contents) -> dict[str, dict[str, float]]:
    """Model -> metric -> test score: ours first, the better one of them before the other."""
    test, baselines = contents.best.get("test", {}), contents.best.get("baselines", {})
    ours = {n: test[n] for n in OURS if n in test}
    metric = main_metric(contents, ours)
    known = [n for n in ours if metric is not None and ours[n].get(metric) is not None]
    known.sort(key=lambda n: ours[n][metric], reverse=metric in words.HIGHER)
    return {**{n: ours[n] for n in (*known, *(n for n in ours if n not in known))}, **baselines}


def main_metric(contents: Contents, scores: dict[str, dict[str, float]]) -> str | None:
    """The study's metric, if the models have it; else the first they have."""
    found = next(iter(scores.values()), {})
    order = (contents.metric, *_ORDER)
    return next((m for m in order if found.get(m) is not None), None)


def verdict(contents: Contents, scores: dict[str, dict[str, float]]) -> Markup:
    """What came out: the better of our models, against the best baseline and the other one."""
    metric = main_metric(contents, scores)
    if metric is None:
        counts = _counts(contents)
        done, still = counts[Status.COMPLETED], counts[Status.PENDING] + counts[Status.STOPPED]
        end = "the search goes on, or was stopped" if still else "no test rows were held out"
        return html("{} trials are complete; {}.", done, end)
    known = {n: s[metric] for n, s in scores.items() if s.get(metric) is not None}
    ours = [n for n in known if n in OURS]
    if not ours:
        return Markup("No test scores.")
    value, name = known[ours[0]], words.metric(metric)
    text = html("{} reaches a test {} of <b>{}</b>", OURS[ours[0]], name, words.number(value))
    return (
        text
        + _against(metric, value, {n: v for n, v in known.items() if n not in OURS})
        + (_ensemble_is_worse(known["ensemble"]) if ours == ["single", "ensemble"] else "")
    )


def _ensemble_is_worse(score: float) -> str:
    return (
        f" The ensemble, chosen on validation rows, does not help here ({words.number(score)}): "
        "jaxopt-lab predict takes the single network with --single."
    )


def _against(metric: str, value: float, others: dict[str, float]) -> str:
    """How a score compares with the best of the others; ends the sentence."""
    if not others:
        return "."
    higher = metric in words.HIGHER
    rival = (max if higher else min)(others, key=lambda n: others[n])
    change = (value - others[rival]) / max(abs(others[rival]), 1e-300)
    side = "better" if (change > 0) is higher else "worse"
    against = f"the best baseline, {words.model(rival).lower()} ({words.number(others[rival])})"
    if abs(change) < 5e-4:
        return f", level with {against}."
    return f": {abs(change):.1%} {side} than {against}."


def _setting(contents: Contents, source: str) -> str:
    settings, task = contents.settings, contents.task
    kind = str(task.get("task", "study"))
    parts = [f"{kind[:1].upper()}{kind[1:]} on {source}"]
    if settings.get("num_folds"):
        folds = settings["num_folds"]
        parts.append(f"{folds}-fold cross-validation" if folds > 1 else "one hold-out split")
    if settings.get("budget"):
        parts.append(f"{settings['budget']} epochs{_that_counts(contents)}")
    if task.get("test_fraction"):
        parts.append(f"{task['test_fraction']:.0%} of the rows held out for the test")
    for role, text in _ROLES.items():
        if task.get(role):
            parts.append(text.format(task[role]))
    several = zip(contents.targets, task.get("log_targets", []), strict=False)
    logs = [name for name, log in several if log]
    if task.get("log_target") or logs:
        parts.append(f"learned on the logarithm of {', '.join(logs) or contents.target}")
    if contents.loss.predicts:
        parts.append(f"{contents.loss.name} loss, predicts {contents.loss.predicts}")
    return " · ".join(parts)


def _that_counts(contents: Contents) -> str:
    """Which epochs count, where they are not the last."""
    found = contents.best.get("validation", {}).get("epochs")
    if not found:
        return ""
    each = ", ".join(str(epoch) for epoch in found["folds"])
    return (
        f", the best of each fold counts (of the winner {each}; on all rows it is trained for "
        f"{found['refit']})"
    )


def _counts(contents: Contents) -> dict[Status, int]:
    known = contents.best.get("trials")
    if known and not contents.trials:
        return {s: int(known.get(s, 0)) for s in Status}
    return {s: sum(t["status"] == s for t in contents.trials) for s in Status}


def _tiles(contents: Contents, scores: dict[str, dict[str, float]]) -> list[Markup]:
    found, best = [], contents.best
    metric = main_metric(contents, scores)
    for name in (n for n in scores if n in OURS):
        kind = "good" if name == "ensemble" else "accent"
        if metric is not None and scores[name].get(metric) is not None:
            label = f"{words.model(name)}, test {words.metric(metric)}"
            more = next((m for m in ("r2", "accuracy") if m in scores[name] and m != metric), None)
            under = f"{words.metric(more)} {words.number(scores[name][more], 3)}" if more else ""
            found.append(tables.tile(label, words.number(scores[name][metric]), under, kind))
    validation = best.get("validation", {})
    if validation.get("mean") is not None:
        error = validation.get("standard_error")
        folds = len(validation.get("folds", []))
        under = f"± {words.number(error, 2)} standard error over {folds} folds"
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


def _intervals(found: dict[str, Any] | None) -> str:
    """How the intervals of our models did; they are no model, and so no row of the table."""
    if not found:
        return ""
    shares = ", ".join(
        f"{words.model(name).lower()}: {found[name]['coverage']:.1%}, mean width "
        f"{words.number(found[name]['mean_width'])}"
        for name in OURS
    )
    return f" Intervals of {found['asked']:.0%} hold the truth of these test rows: {shares}."


def _target_card(name: str, found: dict[str, Any]) -> Markup:
    """Test scores of one of several targets, in its own units."""
    test = {n: found["test"][n] for n in OURS if n in found["test"]}
    note = _intervals(found.get("intervals")).strip()
    body = _score_table({**test, **found["baselines"]})
    return tables.card(f"Test scores of {name}", body, note=note)


def _calibration(found: dict[str, Any] | None) -> str:
    """How sure the class probabilities of our models were, and what was done about it."""
    if not found:
        return ""
    told = []
    for name in OURS:
        mine = found[name]
        loss, error = mine["log_loss"], mine["expected_calibration_error"]
        kept = mine["temperature"] != 1
        change = (
            f"temperature {words.number(mine['temperature'])} takes the out-of-fold log loss from "
            f"{words.number(loss['before'])} to {words.number(loss['after'])} and the calibration "
            f"error from {error['before']:.1%} to {error['after']:.1%}"
        )
        as_they_are = f"as they are (calibration error {error['before']:.1%} out-of-fold)"
        told.append(f"{words.model(name).lower()}: {change if kept else as_they_are}")
    return f" Probabilities of classes: {'; '.join(told)}."


def _score_table(scores: dict[str, dict[str, float]]) -> Markup:
    metrics = [m for m in _ORDER if any(m in s for s in scores.values())]
    metrics += sorted({m for s in scores.values() for m in s} - set(metrics))
    top = {}
    for metric in metrics:
        known = [s[metric] for s in scores.values() if s.get(metric) is not None]
        top[metric] = (max if metric in words.HIGHER else min)(known, default=None)
    rows = []
    for name, mine in scores.items():
        cells: list[str] = [html('<span class="dot {}"></span>{}', name, words.model(name))]
        for metric in metrics:
            text = words.number(mine.get(metric))
            is_best = mine.get(metric) is not None and mine[metric] == top[metric]
            is_best = is_best and metric not in words.UNRANKED
            cells.append(html("<b>{}</b>", text) if is_best else text)
        rows.append(cells)
    head = ["Model", *(words.metric(m) for m in metrics)]
    return tables.table(head, rows, numeric=range(1, len(head)))


def test_rows(page: Page, contents: Contents) -> None:
    """Predictions of the test rows against the truth."""
    figures = prediction_figures.predictions(contents)
    page.figures += figures
    first = "Predicted against true" if contents.is_regression else "Confusion matrix"
    titles = {"predicted": first, "residuals": "Residuals"}
    kind = "wide" if len(figures) == 1 else ""
    cards = [tables.card(titles[f.name.split("-")[0]], tables.plot(f), kind=kind) for f in figures]
    note = "Rows that no network saw in training and no choice was made on."
    page.section("test", "Test rows", "Test rows", note, cards)


def effects(page: Page, contents: Contents) -> None:
    """Which columns the predictions of test rows rest on."""
    found = contents.best.get("effects")
    if not found or not found["columns"]:
        return
    figure = result_figures.effects(found, MOST_EFFECTS)
    page.figures.append(figure)
    rows = [
        (row["name"], words.number(row["mean"]), f"± {words.number(row['deviation'], 2)}")
        for row in found["columns"]
    ]
    metric = words.metric(found["metric"])
    head = ("Column", f"Rise of {metric}", "Spread")
    note = (
        f"Permutation importance of the {words.model(found['model']).lower()}: by how much the "
        f"test {metric} ({words.number(found['error'])}) of {found['rows']:,} held-out rows rises "
        "where a column is shuffled among them; mean and standard deviation of "
        f"{found['repeats']} shuffles. "
        "Columns that say the same share it; it is no effect of changing a column in the world."
    )
    cards = [
        tables.card("Columns by importance", tables.plot(figure)),
        tables.card("All columns", tables.table(head, rows, numeric=[1, 2])),
    ]
    page.section("effects", "Columns", "What the predictions rest on", note, cards)


def winner(page: Page, contents: Contents) -> None:
    """Its hyperparameters, folds, curves, and optimizer as code."""
    best = contents.best
    cards: list[str] = []
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
        note += _with_members(best.get("members"), contents.winner)
        cards.append(tables.card("Hyperparameters", tables.pairs(items), note=note))
    right = [_folds(contents), _optax(contents)]
    cards.append(html("<div>{}</div>", joined(right)) if any(right) else "")
    figure = result_figures.winner_curves(contents)
    if figure:
        page.figures.append(figure)
        note = "Solid: validation; dotted: training (with dropout). A widening gap is overfitting."
        note += _unsteady(contents)
        cards.append(tables.card("Its curves", tables.plot(figure), note=note, kind="wide"))
    page.section("winner", "Winner", "The winner", "", cards)


def ensemble(page: Page, contents: Contents) -> None:
    """Members of the ensemble with their weights, and how good each is alone."""
    members = contents.best.get("ensemble", {}).get("members", [])
    if not members:
        return
    used = sorted(members, key=lambda row: (-row["weight"], row["name"]))
    rows = [
        (
            words.model(row["name"]) if row["name"] in words.MODELS else words.title(row["name"]),
            f"{row['weight']:.0%}",
            words.number(row["out_of_fold"]),
        )
        for row in used
    ]
    head = ("Member", "Weight", f"Out-of-fold {words.metric(contents.metric)}")
    note = (
        "Chosen greedily, with replacement, on rows that none of them was trained on. A trial is "
        "its networks of all folds; models of other kinds were fitted again to all training rows."
    )
    card = tables.card("Members", tables.table(head, rows, numeric=[1, 2]), note=note)
    page.section("ensemble", "Ensemble", "What the ensemble is made of", "", [card])


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


def _with_members(found: dict[str, Any] | None, winner: int | None) -> str:
    """Whether members made the winner better, if that was tried."""
    scored = [t for t in (found or {}).get("trials", []) if t["mean"] is not None]
    if not found or not scored:
        return ""
    best = min(scored, key=lambda trial: trial["mean"])
    end = "taken" if best["trial_id"] == winner else "not taken"
    return (
        f" With {best['size']} members its validation score is {words.number(best['mean'])}, "
        f"without {words.number(found['without'])}: {end}."
    )


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
    return tables.card(title, tables.pairs([*folds, *rerun])) + Markup('<div class="gap"></div>')


def _optax(contents: Contents) -> str:
    text = contents.best.get("optax")
    if not text:
        return ""
    return tables.card("Its optimizer", tables.code(text), note="To paste into your own code.")


def cost(page: Page, contents: Contents) -> None:
    """Where the seconds went, what a prediction costs, and on what all this ran."""
    cards: list[str] = []
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
                name,
                str(sum(wave["jobs"] for wave in mine)),
                str(widths.get(name, "")),
                f"{words.number(seconds['compile'], 3)} / {compiling:.1f}",
                f"{words.number(seconds['run'], 3)} / {max(running, 0.0):.1f}",
            )
        )
    if not rows:
        return ""
    head = ("Program", "Trainings", "Cohort width", "Compiling (s)", "Training (s)")
    note = (
        "Expected / real, expected from the stored costs of the machine; – if nobody knows. Real "
        "compiling is what training waited for it: little for a program from the cache, or "
        "compiled while others trained. Off by much? jaxopt-lab calibrate measures this machine."
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
