"""Parallel coordinates: how hyperparameters and score go together, a line per trial."""

import math
from typing import Any

import numpy as np

from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import Color, Figure, Hover, label, line, paint, score_window
from jaxopt_lab.report.search_figures import capped, diverged_trials
from jaxopt_lab.spaces.distributions import Choice, LogUniform

#: Lines of trials of similar rank are one trace with one colour of the scale.
_BINS = 12


def parallel(contents: Contents) -> Figure | None:
    """Parallel coordinates: a line per trial, from its hyperparameters to its score."""
    space, scores = contents.space, contents.scores
    if space is None or not np.isfinite(scores).any() or not space.num_dims:
        return None
    names, window = list(space.names), score_window(scores)
    shown = [t for t in contents.drawn if t["score"] is not None]
    ranked = sorted(shown, key=lambda t: -t["score"])
    data = [
        _bundle(
            contents, diverged_trials(contents), names, window, paint("bad"), 0.35, "infeasible"
        )
    ]
    for i in range(_BINS):
        part = ranked[i * len(ranked) // _BINS : (i + 1) * len(ranked) // _BINS]
        legend = {0: "worst", _BINS - 1: "best"}.get(i, "")
        opacity = 0.25 + 0.6 * i / (_BINS - 1)
        data.append(_bundle(contents, part, names, window, paint(f"scale{i}"), opacity, legend))
    winner = [t for t in shown if t["trial_id"] == contents.winner]
    data.append({**_bundle(contents, winner, names, window, paint("good"), 1.0, "winner")})
    data[-1]["line"]["width"] = 4
    titles = [*(words.title(n) for n in names), words.metric(contents.metric)]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(titles))),
            "ticktext": [words.joined(t.split(" "), "<br>") for t in titles],
            "range": [-0.35, len(titles) - 0.5],
            "showgrid": True,
            "gridcolor": paint("faint"),
            "zeroline": False,
            "side": "top",
            "fixedrange": True,
        },
        "yaxis": {"visible": False, "range": [-0.04, 1.06], "fixedrange": True},
        "annotations": _ticks(contents, names, window),
        "margin": {"t": 60, "l": 14, "r": 14, "b": 36},
        "legend": {"y": -0.02, "yanchor": "top"},
    }
    return Figure("parallel", [t for t in data if t["x"]], layout, 460)


def _bundle(
    contents: Contents,
    trials: list[dict[str, Any]],
    names: list[str],
    window: tuple[float, float],
    color: Color,
    opacity: float,
    legend: str,
) -> dict[str, Any]:
    """Lines of several trials as one trace, divided by gaps."""
    space = contents.space
    assert space is not None
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[Hover | str] = []
    for trial in trials:
        for j, name in enumerate(names):
            if name in trial["config"] and space.parameters[name].contains(trial["config"][name]):
                x.append(j)
                y.append(round(space.parameters[name].to_unit(trial["config"][name]), 4))
                text.append(label(trial))
        if trial["score"] is not None:
            x.append(len(names))
            height = (capped(trial["score"], window) - window[0]) / (window[1] - window[0])
            y.append(round(height if contents.sign > 0 else 1 - height, 4))
            text.append(label(trial))
        x.append(None)
        y.append(None)
        text.append("")
    options: dict[str, Any] = {
        "name": legend,
        "showlegend": bool(legend),
        "opacity": round(opacity, 2),
    }
    style = {"width": 1.6, "shape": "spline", "smoothing": 0.5}
    return line(x, y, color, line=style, text=text, hoverinfo="text", **options)


def _ticks(
    contents: Contents, names: list[str], window: tuple[float, float]
) -> list[dict[str, Any]]:
    """Values along each axis of the parallel coordinates."""
    space = contents.space
    assert space is not None
    found = []

    def tick(j: int, height: float, text: str) -> None:
        font = {"size": 11, "color": paint("ink")}
        place = {"x": j, "y": height, "xanchor": "left", "xshift": 4, "showarrow": False}
        found.append({**place, "text": text, "font": font, "bgcolor": paint("veil")})

    for j, name in enumerate(names):
        dist = space.parameters[name]
        if isinstance(dist, Choice):
            for value in (
                dist.ranked if len(dist.values) <= 8 else dist.ranked[:: len(dist.values) // 6]
            ):
                tick(j, dist.to_unit(value), words.number(value, 6))
            continue
        ends = dist.extremes
        middle = [math.sqrt(ends[0] * ends[1])] if isinstance(dist, LogUniform) else []
        whole = isinstance(ends[0], int)
        for value in (
            range(ends[0], ends[1] + 1) if whole and ends[1] - ends[0] < 6 else (*ends, *middle)
        ):
            tick(j, dist.to_unit(value), words.number(value, 2))
    low, high = contents.axis_range(window)
    for share in (0.04, 0.5, 0.98):
        value = low + share * (high - low)
        tick(len(names), share, words.number(value, 3))
    return found
