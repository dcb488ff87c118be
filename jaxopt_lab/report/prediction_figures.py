"""Charts of the test rows: predicted against true, residuals, confusion."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import MODEL_COLORS, Figure, axis, line, paint, points

#: Rows drawn at most.
MAX_POINTS = 4000
#: Classes with a row of their own at most; `OTHERS` stands for the rarer ones.
MAX_LABELS, OTHERS = 60, "(all others)"


def predictions(contents: Contents) -> list[Figure]:
    """Predicted against true with residuals, or a confusion matrix; of several targets the former
    of each in turn."""
    columns = contents.predictions
    if not contents.is_regression:
        names = [n for n in ("single", "ensemble") if n in columns]
        if "truth" not in columns or not names:
            return []
        return [_confusion(columns["truth"], columns[names[-1]], names[-1])]
    if not contents.targets:
        return _of_number(columns, contents.target, bool(contents.task.get("log_target")))
    logs = contents.task.get("log_targets", [])
    found = []
    for place, name in enumerate(contents.targets):
        log = place < len(logs) and bool(logs[place])
        found += _of_number(columns, name, log, f"{name}_", f"-{place}" if place else "")
    return found


def _of_number(
    columns: dict[str, list[str]], target: str, log: bool, prefix: str = "", suffix: str = ""
) -> list[Figure]:
    """Predicted against true, and residuals.

    Args:
      columns: predictions as text.
      target: its name.
      log: whether its logarithm is learnt.
      prefix: of the columns of this target.
      suffix: of the figures' names.
    """
    names = [n for n in ("single", "ensemble") if f"{prefix}{n}" in columns]
    if f"{prefix}truth" not in columns or not names:
        return []
    try:
        truth = np.array(columns[f"{prefix}truth"], np.float64)
        predicted = {n: np.array(columns[f"{prefix}{n}"], np.float64) for n in names}
    except ValueError:
        return []
    known = np.isfinite(np.stack([truth, *predicted.values()])).all(axis=0)
    truth, predicted = truth[known], {n: p[known] for n, p in predicted.items()}
    if not len(truth):
        return []
    is_log = log and all(bool(v.min() > 0) for v in (truth, *predicted.values()))
    found = [_scatter(target, truth, predicted, is_log)]
    found.append(_residuals(target, truth, predicted, is_log))
    return [replace(figure, name=figure.name + suffix) for figure in found]


def _scatter(
    target: str, truth: np.ndarray, predicted: dict[str, np.ndarray], is_log: bool
) -> Figure:
    ends = [float(min(truth.min(), *(p.min() for p in predicted.values())))]
    ends.append(float(max(truth.max(), *(p.max() for p in predicted.values()))))
    keep = _sample(len(truth))
    data = [
        points(
            words.rounded(truth[keep]),
            words.rounded(p[keep]),
            MODEL_COLORS[n],
            name=words.model(n),
            marker={"size": 5, "opacity": 0.55},
            visible=True if n == list(predicted)[-1] else "legendonly",
            hovertemplate=words.hover("true %{x}<br>predicted %{y}", words.model(n)),
        )
        for n, p in predicted.items()
    ]
    ideal = {"dash": "dash", "width": 1.5}
    data.append(line(ends, ends, paint("ink"), name="perfect", line=ideal, hoverinfo="skip"))
    kind = {"type": "log", "dtick": "D2"} if is_log else {}
    layout = {
        "xaxis": axis(f"True {target}", **kind),
        "yaxis": axis(f"Predicted {target}", **kind),
    }
    return Figure("predicted", data, layout, 420)


def _residuals(
    target: str, truth: np.ndarray, predicted: dict[str, np.ndarray], is_log: bool
) -> Figure:
    data: list[dict[str, Any]] = []
    residuals = {n: np.log(p / truth) if is_log else p - truth for n, p in predicted.items()}
    limit = max(float(np.quantile(np.abs(r), 0.995)) for r in residuals.values()) or 1.0
    for name, residual in residuals.items():
        counts, edges = np.histogram(residual, 41, (-limit, limit))
        middle = (edges[1:] + edges[:-1]) / 2
        data.append(
            line(
                words.rounded(middle),
                counts.tolist(),
                MODEL_COLORS[name],
                name=words.model(name),
                line={"shape": "hvh"},
                fill="tozeroy",
                fillcolor=paint("veilgood") if name == "ensemble" else paint("veilaccent"),
            )
        )
    unit = "natural log of predicted / true" if is_log else "predicted − true"
    layout = {
        "xaxis": axis(f"Residual of {target} ({unit})", zeroline=True),
        "yaxis": axis("Test rows"),
    }
    return Figure("residuals", data, layout, 420)


def _sample(num: int) -> np.ndarray:
    if num <= MAX_POINTS:
        return np.arange(num)
    return np.sort(np.random.default_rng(0).choice(num, MAX_POINTS, replace=False))


def _confusion(truth: list[str], predicted: list[str], name: str) -> Figure:
    labels = sorted({*truth, *predicted})
    if len(labels) > MAX_LABELS:  # the most frequent ones, and the others together
        frequent = {label for label, _ in Counter(truth).most_common(MAX_LABELS - 1)}
        truth, predicted = ([t if t in frequent else OTHERS for t in c] for c in (truth, predicted))
        labels = [*sorted(frequent), OTHERS]
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for t, p in zip(truth, predicted, strict=True):
        counts[index[t], index[p]] += 1
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heat = {
        "type": "heatmap",
        "z": share.round(4).tolist(),
        "x": labels,
        "y": labels,
        "text": counts.tolist(),
        "texttemplate": "%{text}" if len(labels) <= 20 else "",
        "hovertemplate": words.hover("true %{y}, predicted %{x}: %{text} rows (%{z:.1%})"),
        "zmin": 0,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "colorscale": [[0, paint("cool")], [1, paint("accent")]],
        "colorbar": {"title": {"text": "share of row"}, "tickformat": ".0%", "thickness": 12},
    }
    layout = {
        "xaxis": axis(f"Predicted by the {words.model(name).lower()}", type="category"),
        "yaxis": axis("True", type="category", autorange="reversed", automargin=True),
    }
    return Figure("predicted", [heat], layout, 460)
