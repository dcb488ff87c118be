"""The page of a diagnosis: verdict, before and after, causes, cures, ladder, gradient norms."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.report import diagnosis_figures, tables, words
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined
from jaxopt_lab.storage.files import explain, read_file
from jaxopt_lab.storage.validation import undamaged

FILE_NAME = "diagnosis.json"
NOTES = {
    "rate_calms": "fluctuation over that at the calmest lower rate that loses nothing",
    "rate_gain": "best loss over the best at a lower rate",
    "rate_helps": "fluctuation, or level, over that at the best lower rate",
    "clip_over_rate": "what clipping helps over what a lower rate helps",
    "warmup_helps": "fluctuation, or level, over that with warm-up",
    "warmup_over_rate": "what warm-up helps over what a lower rate helps",
    "rate_is_right": "1.05 over what the best lower rate gains",
    "rate_is_not_clip": "gain by a lower rate over that by clipping, times 1.5",
    "rate_is_not_batch": "gain by a lower rate over that by a larger batch, if gradients are noisy",
    "clip_frees_nothing": "1.3 over the gain of best loss by clipping",
    "clipped_tail": "tail of gradient norms (99.9 % over median) times what clipping helps",
    "clip_helps": "fluctuation, or best loss, over that with the best clipping",
    "tail_stays": "tail of gradient norms at the best lower rate over that at the given one",
    "calms_as_rate": "what clipping calms over what a lower rate calms, times 1.5",
    "over_usual": "learning rate over the highest of practice with this optimizer",
    "edge_calms": "fluctuation over that at the calmest lower rate that ends no higher",
    "rate_edge": "best loss at three times the rate over the given one's",
    "rate_does_not_fail": "below 1 of a rate that is too high by itself",
    "batch_explains_less": "rows of a batch that is at fault over 16",
    "target_explains_less": "2 over what a log scale tells better, if few targets make the loss",
    "unit_helps": "fluctuation, or share of a constant's loss, over that on standardised targets",
    "target_scale": "root mean square of the targets",
    "clip_is_not_rate": "gain by clipping over that by a lower rate, times 1.5",
    "batch_calms": "fluctuation over that with four times the batch",
    "noise_over_batch": "gradient noise scale over the batch size",
    "b2_calms": "fluctuation over that with the best slower second moment",
    "decay_explains_less": "what slower moments calm over what a decaying rate or average calms",
    "memory": "100 steps over those that the second moment remembers",
    "overfit_rise": "end of the validation trend over its lowest point",
    "train_fall": "fall of the training loss in the second half",
    "above_floor": "fluctuation over the noise floor",
    "rows_explain": "noise floor over 0.8 of the fluctuation, or what more rows calm over 3",
    "train_calm": "noise floor over the fluctuation of the training loss",
    "fluctuation": "spread around the trend",
    "decay_calms": "fluctuation over that of the calmest harmless decay or average",
    "decay_gain": "best loss over that of the best decaying rate or average",
    "batch_is_right": "16 over the gradient noise scale in batches",
    "b2_is_right": "1.3 over what a slower second moment calms",
    "does_not_rise": "1.12 over the rise of the end above the lowest point",
    "warmup_gain": "best loss over that with warm-up",
    "warmup_over_clip": "what warm-up gains over what clipping gains",
    "rows_explain_less": "what clipping helps over what leaving the outlying rows out does",
    "outliers_calm": "fluctuation over that without the rows far from all others",
    "log_helps": "what a log scale of the target calms over 1.5, or tells and learns more over 2 "
    "and 1.3",
    "tail_share": "share of the targets more than 5 usual spreads from their median",
    "scale_helps": "fluctuation, or best loss, over that on standardised inputs",
    "input_scale": "root mean square of the largest input column, or one over it",
    "other_undone": "what undoing it helps once the other cause is undone",
    "both_calm": "fluctuation over that with both undone",
    "both_gain": "best loss over that with both undone",
}


def compose(directory: str | Path) -> Page:
    """Make the page from the `diagnosis.json` in a directory.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    path = Path(directory) / FILE_NAME
    return undamaged(str(path), lambda: _page(_read(path)))


def _page(content: dict[str, Any]) -> Page:
    page = Page("Stabilise · jaxopt-lab")
    what = _what(content)
    titles = {
        "no_problem": f"This {what} is calm",
        "learns_nothing": f"This {what} falls no lower than without learning",
    }
    title = titles.get(content["causes"][0]["name"], f"Why this {what} fluctuates")
    page.body += html('<h1>{}</h1><p class="lead">{}</p>', title, content["sentence"])
    setting = content["setting"]
    page.body += html('<p class="note">{}.{}</p>', _setting(content), _observed(setting))
    for line in content.get("notes", []):
        page.body += html('<p class="note">{}.</p>', line[0].upper() + line[1:])
    page.body += html('<div class="tiles">{}</div>', joined(_tiles(content)))
    _curves(page, content)
    _causes(page, content)
    _walk(page, content)
    _cures(page, content)
    _probes(page, content)
    _fix(page, content)
    page.footer = Markup("<p>Made by jaxopt-lab from diagnosis.json alone.</p>")
    return page


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_file(path).decode())
        if content["schema"] != 1:
            raise ValueError(f"schema {content['schema']}")
        return dict(content)
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    except OSError as error:
        raise explain(error, path, reading=True) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from None


def _what(content: dict[str, Any]) -> str:
    """What is measured."""
    return str(content["setting"].get("curve", "validation loss"))


def _setting(content: dict[str, Any]) -> str:
    """Rows, units, seeds."""
    setting = content["setting"]
    found = [
        f"{setting[key]:,} {what}"
        for key, what in (("num_rows", "training rows"), ("num_valid", "validation rows"))
        if setting.get(key)
    ]
    if "problem" in setting:
        found.insert(0, str(setting["problem"]))
    found.append(f"{setting['num_epochs']} {setting.get('unit', 'epoch')!s}s")
    found.append(f"{setting['num_seeds']} seeds")
    return ", ".join(found) + _shared(content)


def _shared(content: dict[str, Any]) -> str:
    """What variants have in common, where there are any."""
    if not content["remedies"]:
        return ""
    return "; every variant has the seeds and minibatches of the base"


def _observed(setting: dict[str, Any]) -> str:
    """Where variants are compared in shorter trainings than the base was observed in."""
    seen = setting.get("observed")
    if not seen or seen["num_epochs"] == setting["num_epochs"]:
        return ""
    return (
        f" To end in time, they train for less than the {seen['num_epochs']} epochs over which the "
        f"base was observed first: {seen['fluctuation']:.1%} off its trend there."
    )


def _tiles(content: dict[str, Any]) -> list[Markup]:
    spread, best, setting = content["fluctuation"], content["best_validation"], content["setting"]
    low, high = spread["interval"]
    before = "Fluctuation" if spread["after"] is None else "Fluctuation before"
    found = [
        tables.tile(before, f"{spread['before']:.1%}", f"{low:.1%} to {high:.1%}"),
    ]
    if spread["after"] is not None:
        found.append(
            tables.tile("Fluctuation after", f"{spread['after']:.1%}", "on fresh seeds", "good")
        )
        change = best["after"] / best["before"] - 1
        level = "Level, as a loss" if "curve" in setting else "Best validation loss"
        found.append(tables.tile(level, f"{change:+.1%}".replace("-", "−"), "with the fix"))
    if spread["noise_floor"] is not None:
        rows = f"of {setting['num_valid']:,} validation rows"
        found.append(tables.tile("Noise floor", f"{spread['noise_floor']:.1%}", rows))
    under = f"{words.seconds(setting['compile_seconds'])} of it compiling"
    seconds = words.seconds(setting["seconds"])
    found.append(tables.tile(f"{setting['num_trainings']} trainings", seconds, under))
    return found


def _curves(page: Page, content: dict[str, Any]) -> None:
    figure = diagnosis_figures.before_after(content)
    page.figures.append(figure)
    note = "Lines: median over seeds; bands: least to greatest. Both with the same fresh seeds."
    if content["fluctuation"]["after"] is None:
        note = "Lines: median over seeds; bands: least to greatest."
    what = _what(content)
    cards = [tables.card(what[0].upper() + what[1:], tables.plot(figure), note=note, kind="wide")]
    title = "Before and after" if content["fluctuation"]["after"] is not None else "Its curve"
    page.section("curves", "Curves", title, "", cards)


def _causes(page: Page, content: dict[str, Any]) -> None:
    rows = []
    for cause in content["causes"]:
        for i, (key, value) in enumerate(cause["evidence"].items()):
            name = html("<b>{}</b>", words.title(cause["name"])) if i == 0 else ""
            confidence = f"{cause['confidence']:.2f}" if i == 0 else ""
            rows.append([name, confidence, *_measured(cause, key, value)])
    head = ["Cause", "Confidence", "Number", "At least", "What it is"]
    cards = [tables.card("", tables.table(head, rows, numeric=[1, 2, 3]), kind="wide")]
    rejected = [
        [words.title(c["name"]), *_measured(c, key, c["evidence"][key])]
        for c in content.get("rejected", [])
        for key in _failed(c)
    ]
    if rejected:
        head = ["Rejected", "Number", "At least", "What it is"]
        table = tables.table(head, rejected, numeric=[1, 2])
        cards.append(tables.card("Why not another", table, kind="wide"))
    note = "Confidence 0.5: the evidence is just at its threshold."
    page.section("causes", "Causes", "Causes and their evidence", note, cards)


def _measured(cause: dict[str, Any], key: str, value: float) -> list[str]:
    """A number, what it must reach, and what it is."""
    least = cause.get("thresholds", {}).get(key)
    return [
        words.number(value, 3),
        "" if least is None else words.number(least, 3),
        NOTES.get(key, key),
    ]


def _failed(cause: dict[str, Any]) -> list[str]:
    """The numbers that do not reach their thresholds."""
    return [k for k, least in cause["thresholds"].items() if cause["evidence"][k] < least]


def _walk(page: Page, content: dict[str, Any]) -> None:
    """The usual steps of a person, in order; none before they were tried."""
    walk = content.get("walk", [])
    if not any(row["loss_ratio"] for row in walk):
        return
    rows = [
        [
            row["step"],
            row["change"],
            _interval(row, "fluctuation"),
            _interval(row, "loss"),
            row["outcome"],
        ]
        for row in walk
    ]
    head = ["Step", "Change", "Fluctuation ×", "Best loss ×", "Outcome"]
    note = "Each against the base, with 95 % intervals over seeds; below 1 is calmer, or better."
    cards = [tables.card("", tables.table(head, rows, numeric=[2, 3]), note=note, kind="wide")]
    page.section("walk", "Walk", "The usual walk, step by step", "", cards)


def _interval(row: dict[str, Any], name: str) -> str:
    if row[f"{name}_ratio"] is None:
        return "–"
    value, low, high = (words.number(row[f"{name}_{x}"], 3) for x in ("ratio", "low", "high"))
    return f"{value} ({low} to {high})"


def _cures(page: Page, content: dict[str, Any]) -> None:
    figure = diagnosis_figures.forest(content)
    if figure is None:
        return
    page.figures.append(figure)
    note = "Ratios to the base with 95 % intervals over seeds; below 1 is calmer, or better."
    cards = [
        tables.card("Every cure against the base", tables.plot(figure), note=note, kind="wide")
    ]
    calm = content["causes"][0]["name"] == "no_problem"  # which needs no cure
    rows = [
        [
            r["name"],
            words.number(r["fluctuation_ratio"], 3),
            words.number(r["loss_ratio"], 3),
            tables.pill("accepted", "completed") if r["accepted"] and not calm else "",
            r["why"],
        ]
        for r in diagnosis_figures.cures(content)
    ]
    head = ["Cure", "Fluctuation ×", "Best loss ×", "", "Why"]
    cards.append(tables.card("", tables.table(head, rows, numeric=[1, 2]), kind="wide"))
    page.section("cures", "Cures", "What each cure does", "", cards)


def _probes(page: Page, content: dict[str, Any]) -> None:
    ladder = diagnosis_figures.ladder(content)
    cards = []
    if ladder is not None:
        page.figures.append(ladder)
        note = "Fluctuation and best loss at multiples of the given rate."
        cards.append(tables.card("Learning-rate ladder", tables.plot(ladder), note=note))
    if content["gradient_norms"] is not None:
        norms = diagnosis_figures.norms(content)
        page.figures.append(norms)
        note = "Of all updates of the base, unclipped; the median and the 90 % quantile."
        cards.append(tables.card("Gradient norms", tables.plot(norms), note=note))
    if cards:
        page.section("probes", "Probes", "How near to the edge", "", cards)


def _fix(page: Page, content: dict[str, Any]) -> None:
    recommended = content["recommended"]
    changes = recommended["changes"]
    items = [(words.title(k), words.number(v)) for k, v in changes.items()]
    cards = []
    if items:
        note = "Confirmed on seeds that chose nothing before."
        cards.append(tables.card("Change", tables.pairs(items), note=note))
        if content["optax"]:
            code = tables.code(content["optax"])
            cards.append(tables.card("Its optimizer", code, note="To paste into your own code."))
        if content.get("averaging"):
            code = tables.code(content["averaging"])
            note = "After each update; `averaged` begins as `params`, and is what is evaluated."
            cards.append(tables.card("Its averaged weights", code, note=note))
    title = recommended["name"] or "Nothing to change"
    page.section("fix", "Fix", f"Recommended: {title}" if items else title, "", cards)
