"""Charts of the result: models side by side, curves, importance, infeasible regions, cost."""

import math
from typing import Any

import numpy as np

from jaxopt_lab.analysis import Bucket
from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import MODEL_COLORS, Color, Figure, axis, line, log_ticks, paint

#: Epochs drawn at most.
MAX_EPOCHS = 160


def models(contents: Contents, scores: dict[str, dict[str, float]], metric: str) -> Figure:
    """A bar per model."""
    higher = metric in words.HIGHER
    known = {n: s[metric] for n, s in scores.items() if _is_number(s.get(metric))}
    ranked = sorted(known, key=lambda n: known[n], reverse=not higher)
    values = [known[n] for n in ranked]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": words.rounded(values),
        "y": [words.model(n) for n in ranked],
        "marker": {
            "color": [MODEL_COLORS.get(n, paint("faint")) for n in ranked],
            "cornerradius": 4,
        },
        "text": [words.number(v) for v in values],
        "textposition": "auto",
        "textangle": 0,
        "hovertemplate": words.hover("%{y}: %{x}"),
    }
    worse = "higher" if higher else "lower"
    unit = words.UNITS.get(metric) or _unit(contents, metric)
    name = f"Test {words.metric(metric)}{f', {unit}' if unit else ''} ({worse} is better)"
    layout = {
        "xaxis": axis(name, rangemode="tozero"),
        "yaxis": {"automargin": True, "showgrid": False, "ticks": "", "type": "category"},
        "bargap": 0.35,
        "showlegend": False,
    }
    return Figure("models", [bars], layout, 110 + 38 * len(ranked))


def _unit(contents: Contents, metric: str) -> str:
    return f"units of {contents.target}" if metric in ("rmse", "mae", "huber", "pinball") else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def winner_curves(contents: Contents) -> Figure | None:
    """Training and validation loss of the winner, fold by fold."""
    data: list[dict[str, Any]] = []
    folds = sorted(f for t, f in contents.members if t == contents.winner)
    num_folds = int(contents.settings.get("num_folds", len(folds)))
    for fold in [f for f in folds if f < num_folds]:
        curves = contents.members[int(contents.winner or 0), fold]
        for key, dash in (("train_loss", "dot"), ("loss", "solid")):
            if key not in curves:
                continue
            x, y = thinned(curves[key])
            kind = "validation" if key == "loss" else "training"
            data.append(
                line(
                    x,
                    y,
                    paint(f"fold{fold % 6}"),
                    name=f"fold {fold + 1}, {kind}",
                    legendgroup=kind,
                    line={"dash": dash, "width": 2.4 if key == "loss" else 1.3},
                )
            )
    if not data:
        return None
    shown = [value for trace in data for value in trace["y"] if value is not None]
    return Figure("winner-curves", data, _curve_layout(contents, shown), 400)


def all_curves(contents: Contents) -> Figure | None:
    """Validation loss of every trial on its first fold, faint; the winner in front."""
    status = {t["trial_id"]: str(t["status"]) for t in contents.trials}
    bundles: dict[str, tuple[list[Any], list[Any]]] = {}
    for (trial_id, fold), curves in contents.members.items():
        if fold or trial_id == contents.winner or "loss" not in curves:
            continue
        x, y = bundles.setdefault(status.get(trial_id, ""), ([], []))
        more_x, more_y = thinned(curves["loss"])
        x += [*more_x, None]
        y += [*more_y, None]
    colors = {"completed": paint("accent"), "infeasible": paint("bad")}
    order = ("infeasible", "stopped", "completed")
    data = [
        line(
            *bundles[name],
            colors.get(name, paint("muted")),
            name=name,
            opacity=0.45,
            hoverinfo="skip",
        )
        | {"connectgaps": False}
        for name in sorted(bundles, key=lambda n: order.index(n) if n in order else 0)
    ]
    for trace in data:
        trace["line"]["width"] = 1.2
    mine = contents.members.get((int(contents.winner), 0)) if contents.winner is not None else None
    if mine is not None and "loss" in mine:
        x, y = thinned(mine["loss"])
        data.append(line(x, y, paint("good"), name="winner", line={"width": 3}))
    if not data:
        return None
    limits = _usual_losses(contents)
    return Figure("all-curves", data, _curve_layout(contents, limits, clipped=bool(limits)), 400)


def _curve_layout(contents: Contents, shown: Any, clipped: bool = False) -> dict[str, Any]:
    """Of curves of the loss; where they are clipped, `shown` are the ends of the axis."""
    unit = words.LOSSES[contents.loss.name] if contents.is_regression else "cross-entropy"
    limits = {"range": [math.log10(limit) for limit in shown]} if clipped else {}
    return {
        "xaxis": axis("Epoch"),
        "yaxis": axis(f"Loss ({unit})", **log_ticks(shown), **limits),
    }


def _usual_losses(contents: Contents) -> list[float]:
    """From below the least to above most of the curves of the first folds; empty without any."""
    first = [c["loss"] for (_, f), c in contents.members.items() if not f and "loss" in c]
    ends = [float(loss[-1]) for loss in first if np.isfinite(loss[-1]) and loss[-1] > 0]
    if not ends:
        return []
    usual = max(3 * float(np.median(ends)), float(np.nanmedian([loss[0] for loss in first])))
    return [0.85 * min(ends), 1.3 * usual]


def thinned(curve: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Epochs from 1, and values: at most `MAX_EPOCHS` of them, the last among them."""
    keep = np.unique(
        np.linspace(0, len(curve) - 1, min(len(curve), MAX_EPOCHS)).round().astype(int)
    )
    return (keep + 1).tolist(), words.rounded(curve[keep], 4)


def importance(shares: dict[str, float], interactions: float) -> Figure:
    """A bar per hyperparameter, the largest on top, and one for what it takes several."""
    names = [*reversed(shares)]
    values = [shares[n] for n in names]
    labels = [words.title(n) for n in names]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": words.rounded([interactions, *values], 3),
        "y": ["(together)", *labels],
        "marker": {"color": [paint("faint"), *[paint("accent")] * len(names)], "cornerradius": 4},
        "text": [f"{v:.0%}" for v in (interactions, *values)],
        "textposition": "auto",
        "textangle": 0,
        "hovertemplate": words.hover("%{y}: %{text}"),
    }
    layout = {
        "xaxis": axis("Share of the differences between trials", tickformat=".0%"),
        "yaxis": {"automargin": True, "showgrid": False, "ticks": "", "type": "category"},
        "showlegend": False,
        "bargap": 0.35,
    }
    return Figure("importance", [bars], layout, 120 + 30 * len(values))


def effects(found: dict[str, Any], most: int) -> Figure:
    """A bar per column, the largest on top, with the spread over shuffles."""
    shown = found["columns"][:most][::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": words.rounded([_or_nan(row["mean"]) for row in shown], 4),
        "y": [row["name"] for row in shown],
        "error_x": {
            "type": "data",
            "array": words.rounded([_or_nan(row["deviation"]) for row in shown], 3),
            "color": paint("muted"),
        },
        "marker": {"color": paint("accent"), "cornerradius": 4},
        "hovertemplate": words.hover("%{y}: %{x} ± %{error_x.array}"),
    }
    layout = {
        "xaxis": axis(f"Rise of the test {words.metric(found['metric'])} where it is shuffled"),
        "yaxis": {"automargin": True, "showgrid": False, "ticks": "", "type": "category"},
        "showlegend": False,
        "bargap": 0.35,
    }
    return Figure("effects", [bars], layout, 120 + 26 * len(shown))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def regions(buckets: list[Bucket]) -> Figure | None:
    """Share of infeasible trials by part of each range, where any diverged."""
    names = list(dict.fromkeys(b.name for b in buckets))
    if not any(b.num_infeasible for b in buckets):
        return None
    width = max(sum(b.name == n for b in buckets) for n in names)
    z, text = [], []
    for name in reversed(names):
        mine = [b for b in buckets if b.name == name]
        z.append([*words.rounded([b.share for b in mine], 3), *[None] * (width - len(mine))])
        text.append(
            [words.html("{}<br>{} of {}", b.label, b.num_infeasible, b.num_trials) for b in mine]
            + [""] * (width - len(mine))
        )
    heat = {
        "type": "heatmap",
        "z": z,
        "y": [words.title(n) for n in reversed(names)],
        "x": list(range(width)),
        "text": text,
        "texttemplate": "%{text}",
        "textfont": {"size": 11},
        "hoverinfo": "text",
        "zmin": 0,
        "zmax": 1,
        "xgap": 4,
        "ygap": 4,
        "colorscale": [[0, paint("cool")], [1, paint("hot")]],
        "showscale": False,
    }
    layout = {
        "margin": {"b": 8},
        "xaxis": {"visible": False},
        "yaxis": {"automargin": True, "showgrid": False, "ticks": "", "type": "category"},
    }
    return Figure("regions", [heat], layout, 60 + 48 * len(names))


def cost(contents: Contents) -> Figure | None:
    """Where the seconds went: one bar, phase by phase."""
    parts: dict[str, list[float]] = {}
    for wave in contents.waves:
        mine = parts.setdefault(words.phase(wave["phase"]), [0.0, 0.0])
        mine[0] += wave["compile_seconds"]
        mine[1] += max(wave["seconds"] - wave["compile_seconds"], 0.0)
    known = contents.best.get("seconds", {})
    spent = sum(sum(p) for p in parts.values())
    if not parts and {"compile", "train"} <= known.keys():
        parts["all phases"] = [known["compile"], known["train"]]
        spent = sum(parts["all phases"])
    rest = float(known.get("total", spent)) - spent
    if not parts:
        return None
    labels = [*parts, *(["everything else"] if rest > 0.05 else [])][::-1]
    data = []
    for i, (kind, color) in enumerate((("compile", paint("second")), ("train", paint("accent")))):
        values = [parts[n][i] if n in parts else 0.0 for n in labels]
        data.append(_seconds_bar(kind, labels, values, color))
    if rest > 0.05:
        values = [0.0 if n in parts else rest for n in labels]
        data.append(
            _seconds_bar("data, baselines, analysis, files", labels, values, paint("faint"))
        )
    layout = {
        "barmode": "stack",
        "xaxis": axis("Seconds"),
        "yaxis": {"automargin": True, "showgrid": False, "ticks": "", "type": "category"},
        "bargap": 0.35,
    }
    return Figure("cost", data, layout, 140 + 40 * len(labels))


def _seconds_bar(name: str, labels: list[str], values: list[float], color: Color) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": labels,
        "x": words.rounded(values, 4),
        "marker": {"color": color, "cornerradius": 4},
        "hovertemplate": words.hover("%{y}: %{x:.1f} s", name),
    }
