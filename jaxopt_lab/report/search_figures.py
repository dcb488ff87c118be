"""Charts of the search: best so far, slices, isolation, budget."""

import math
from typing import Any

import numpy as np

from jaxopt_lab.analysis import BestOfK, Isolated
from jaxopt_lab.core.objective import is_on_front
from jaxopt_lab.core.status import Status
from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import (
    Figure,
    axis,
    label,
    line,
    marker_size,
    paint,
    place,
    points,
    score_window,
    value_axis,
)
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform

#: Numbers of trials k drawn at most.
MAX_BUDGETS = 400
_PHASE_COLORS = {"wide": paint("muted"), "search": paint("accent"), "refined": paint("accent")}


def score_axis(contents: Contents, window: tuple[float, float] | None = None) -> dict[str, Any]:
    """The axis of the score; a window is of what is minimised."""
    if contents.is_table:
        unit = words.UNITS.get(contents.metric, f"units of {contents.target}")
        found = axis(f"Validation {words.metric(contents.metric)} ({unit})")
    else:
        found = axis(f"{contents.metric} ({words.better(contents.sign)})")
    return {**found, "range": contents.axis_range(window)} if window else found


def best_so_far(contents: Contents) -> Figure:
    """Scores in the order of proposal, and the best up to each trial."""
    window = score_window(contents.scores)
    data: list[dict[str, Any]] = []
    for phase in dict.fromkeys(t["phase"] for t in contents.drawn):
        done = [t for t in contents.drawn if t["phase"] == phase and t["score"] is not None]
        for stopped in (False, True):
            mine = [t for t in done if (t["status"] == Status.STOPPED) is stopped]
            data += [_trial_points(contents, mine, phase, stopped, window)] if mine else []
    data += _infeasible([(t["trial_id"], t) for t in diverged_trials(contents)], contents, window)
    x: list[int] = []
    y: list[float] = []
    for trial in contents.finished:
        if (
            trial["status"] == Status.COMPLETED
            and trial["score"] is not None
            and (not y or trial["score"] < y[-1])
        ):
            x.append(trial["trial_id"])
            y.append(trial["score"])
    if x:
        x, y = [*x, contents.finished[-1]["trial_id"]], [*y, y[-1]]
        y = [contents.sign * score for score in y]
        data.append(
            line(
                x,
                words.rounded(y),
                paint("good"),
                name="best so far",
                line={"shape": "hv", "width": 3},
            )
        )
    layout = {
        "xaxis": axis("Trial, in the order of proposal"),
        "yaxis": score_axis(contents, window),
    }
    return Figure("best-so-far", data, layout, 380)


def score_against_size(contents: Contents) -> Figure | None:
    """Scores over the weights of networks, and the Pareto front; None if all are of one size."""
    sizes = contents.best.get("num_parameters", {})
    mine = [
        t
        for t in contents.drawn
        if t["status"] == Status.COMPLETED and sizes.get(str(t["trial_id"]), 0) > 0
    ]
    mine.sort(key=lambda t: (sizes[str(t["trial_id"])], t["score"]))
    x = [sizes[str(t["trial_id"])] for t in mine]
    if len(set(x)) < 2:
        return None
    scores = np.array([t["score"] for t in mine], np.float64)
    window = score_window(scores)
    y = words.rounded(contents.sign * capped(score, window) for score in scores)
    best = np.flatnonzero(is_on_front(np.column_stack([np.array(x, np.float64), scores])))
    style = {"width": 3, "shape": "hv"}
    front = line([x[i] for i in best], [y[i] for i in best], paint("good"), line=style)
    every = points(x, y, paint("accent"), name="trial", text=[label(t) for t in mine])
    data = [
        every | {"hoverinfo": "text"},
        front | {"mode": "lines+markers", "name": "Pareto front", "hoverinfo": "skip"},
    ]
    sized = axis("Weights of the network", type="log", exponentformat="power")
    return Figure("front", data, {"xaxis": sized, "yaxis": score_axis(contents, window)})


def _trial_points(
    contents: Contents,
    trials: list[dict[str, Any]],
    phase: str,
    stopped: bool,
    window: tuple[float, float],
) -> dict[str, Any]:
    name = words.phase(phase) + (", stopped early" if stopped else "")
    color = _PHASE_COLORS.get(phase, paint("second"))
    marker: dict[str, Any] = {"opacity": 0.45 if stopped else 0.9}
    marker["size"] = marker_size(len(contents.drawn))
    marker["symbol"] = [_symbol(contents, t["score"], window, stopped) for t in trials]
    return points(
        [t["trial_id"] for t in trials],
        words.rounded(contents.sign * capped(t["score"], window) for t in trials),
        color,
        name=name,
        marker=marker,
        text=[label(t) for t in trials],
        hoverinfo="text",
    )


def _symbol(contents: Contents, score: float, window: tuple[float, float], stopped: bool) -> str:
    """A triangle that points to a score beyond the axis."""
    beyond = "triangle-up" if contents.sign > 0 else "triangle-down"
    shape = beyond if score > window[1] else "circle"
    return f"{shape}-open" if stopped else shape


def capped(score: float, window: tuple[float, float]) -> float:
    """Scores worse than the axis goes stand just before its end."""
    return min(score, window[1] - 0.02 * (window[1] - window[0]))


def diverged_trials(contents: Contents) -> list[dict[str, Any]]:
    """Those of the drawn trials that diverged."""
    return [t for t in contents.drawn if t["status"] == Status.INFEASIBLE]


def _infeasible(
    placed: list[tuple[Any, dict[str, Any]]], contents: Contents, window: tuple[float, float]
) -> list[dict[str, Any]]:
    """Crosses at the worse end of the axis."""
    if not placed:
        return []
    height = contents.sign * (window[1] - 0.02 * (window[1] - window[0]))
    return [
        points(
            [x for x, _ in placed],
            [height] * len(placed),
            paint("bad"),
            name="infeasible (diverged)",
            marker={"symbol": "x", "size": 8},
            text=[label(t) for _, t in placed],
            hoverinfo="text",
        )
    ]


def slices(contents: Contents) -> list[Figure]:
    """One chart per hyperparameter: score against value, infeasible trials at the top."""
    space, window = contents.space, score_window(contents.scores)
    assert space is not None
    metric, found = words.metric(contents.metric), []
    for name, dist in space.parameters.items():
        active = [t for t in contents.drawn if name in t["config"]]
        placed = [(_jittered(dist, t["config"][name], t["trial_id"]), t) for t in active]
        placed = [(x, t) for x, t in placed if x is not None]
        scored = [(x, t) for x, t in placed if t["score"] is not None]
        trace = points(
            [x for x, _ in scored],
            words.rounded(contents.sign * capped(t["score"], window) for _, t in scored),
            paint("accent"),
            name="trials",
            text=[label(t) for _, t in scored],
            hoverinfo="text",
            marker={
                "opacity": 0.75,
                "size": marker_size(len(contents.drawn)),
                "symbol": [
                    _symbol(contents, t["score"], window, t["status"] == Status.STOPPED)
                    for _, t in scored
                ],
            },
        )
        diverged = [(x, t) for x, t in placed if t["status"] == Status.INFEASIBLE]
        data = [trace, *_infeasible(diverged, contents, window), *_star(contents, name, placed)]
        layout = {
            "xaxis": value_axis(name, dist),
            "yaxis": {**score_axis(contents, window), "title": {"text": metric}},
            "showlegend": False,
        }
        found.append(Figure(f"slice-{name}", data, layout, 260))
    return found


def _jittered(dist: Any, value: Any, trial_id: int) -> Any:
    """Values of a choice are spread a little, the same in every build."""
    x = place(dist, value)
    if x is None or not (isinstance(dist, Choice) or isinstance(value, int)):
        return x
    if isinstance(dist, Choice):
        return round(x + ((trial_id * 0.618034) % 1 - 0.5) * 0.4, 3)
    return x


def _star(contents: Contents, name: str, placed: list[tuple[Any, dict]]) -> list[dict[str, Any]]:
    """The winner, on top of all others."""
    mine = [
        (x, t) for x, t in placed if t["trial_id"] == contents.winner and t["score"] is not None
    ]
    return [
        points(
            [x],
            words.rounded([contents.sign * t["score"]]),
            paint("good"),
            name="winner",
            marker={"symbol": "star", "size": 15, "line": {"width": 1, "color": paint("card")}},
            text=[label(t)],
            hoverinfo="text",
        )
        for x, t in mine
    ]


def isolation(contents: Contents, isolated: dict[str, list[Isolated]]) -> list[Figure]:
    """One chart per hyperparameter: the best trial of each part of its range."""
    space = contents.space
    assert space is not None
    window = score_window(contents.scores)
    found = []
    for name, parts in isolated.items():
        dist = space.parameters[name]
        layout = {
            "xaxis": value_axis(name, dist),
            "yaxis": axis(words.metric(contents.metric), range=contents.axis_range(window)),
            "showlegend": False,
        }
        known = [i for i in parts if math.isfinite(i.score)]
        data = _parts(contents, dist, known, window)
        found.append(Figure(f"isolation-{name}", data, layout, 250))
    return found


def _parts(
    contents: Contents, dist: Distribution, parts: list[Isolated], window: tuple[float, float]
) -> list[dict[str, Any]]:
    """A bar as wide as each part at its best score, and a point in its middle."""
    least = min((i.score for i in parts), default=math.nan)
    x: list[Any] = []
    y: list[Any] = []
    for part in parts:
        height = words.rounded([contents.sign * capped(part.score, window)])[0]
        x += [*_ends(dist, part), None]
        y += [height, height, None]
    middles = [place(dist, dist.from_unit((i.bucket.low + i.bucket.high) / 2)) for i in parts]
    text = [
        words.html(
            "{}<br>best {}<br>{} trials, {} infeasible",
            i.bucket.label,
            words.number(contents.shown(i.score)),
            i.bucket.num_trials,
            i.bucket.num_infeasible,
        )
        for i in parts
    ]
    marker = {
        "size": 9,
        "color": [paint("good") if i.score == least else paint("accent") for i in parts],
        "symbol": [_symbol(contents, i.score, window, False) for i in parts],
    }
    heights = words.rounded(contents.sign * capped(i.score, window) for i in parts)
    bars = line(x, y, paint("faint"), line={"width": 5}, hoverinfo="skip")
    return [
        bars,
        points(middles, heights, paint("accent"), marker=marker, text=text, hoverinfo="text"),
    ]


def _ends(dist: Distribution, part: Isolated) -> tuple[float, float]:
    """Where a part begins and ends on the hyperparameter's axis."""
    if isinstance(dist, Choice):
        middle = place(dist, dist.from_unit((part.bucket.low + part.bucket.high) / 2))
        return middle - 0.35, middle + 0.35
    low, high = dist.from_unit(part.bucket.low), dist.from_unit(part.bucket.high)
    if isinstance(dist, IntUniform):
        high = dist.from_unit(part.bucket.high - 1e-9)
    return (low - 0.2, high + 0.2) if isinstance(dist, IntUniform) else (low, high)


def budget(contents: Contents, curve: BestOfK, phase: str) -> Figure:
    """Best of k trials: median and band over draws of k trials."""
    known = np.isfinite(curve.median)
    keep = np.flatnonzero(known)
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, min(len(keep), MAX_BUDGETS)).astype(int))]
    k = curve.k[keep].tolist()
    low, high = (words.rounded(contents.sign * v[keep]) for v in (curve.low, curve.high))
    band = {"hoverinfo": "skip", "showlegend": False}
    data = [
        line(k, high, paint("accent"), line={"width": 0}, **band),
        line(
            k,
            low,
            paint("accent"),
            line={"width": 0},
            fill="tonexty",
            fillcolor=paint("veilaccent"),
        )
        | {"name": "10 % to 90 % of draws", "hoverinfo": "skip"},
        line(
            k,
            words.rounded(contents.sign * curve.median[keep]),
            paint("accent"),
            name="median",
            line={"width": 3},
        ),
    ]
    window = score_window(contents.scores)
    top = float(np.min(curve.high[known])) if known.any() else window[1]
    low_end = window[0]
    worst = float(curve.median[known][0]) if known.any() else top
    layout = {
        "xaxis": axis(f"k, trials of the {words.phase(phase)}", rangemode="tozero"),
        "yaxis": score_axis(contents, (low_end, max(top, min(worst, window[1])))),
    }
    return Figure("best-of-k", data, layout, 340)
