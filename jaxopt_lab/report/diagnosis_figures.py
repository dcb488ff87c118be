"""Charts of a diagnosis: bands over seeds, forest plot, ladder of rates, gradient norms."""

import math
from typing import Any

import numpy as np

from jaxopt_lab.report import words
from jaxopt_lab.report.figures import Color, Figure, axis, line, log_ticks, paint, points


def second_axis(title: str, **options: Any) -> dict[str, Any]:
    """A further axis, with the look that the page gives the first ones."""
    font = {"color": paint("soft")}
    found = axis(title, gridcolor=paint("grid"), tickfont={**font, "size": 12}, **options)
    found["title"]["font"] = {**font, "size": 13}
    return found


def before_after(content: dict[str, Any]) -> Figure:
    """Validation loss of the base and of the fix, median and range over seeds."""
    curves, evaluations = content["curves"], content["setting"]["evaluations"]
    fixed = _array(curves["fixed"])
    base = _array(curves["fresh_base"] if fixed.size else curves["base"])
    data = _band(base, evaluations, paint("accent"), paint("veilaccent"), "base")
    if fixed.size:
        data += _band(fixed, evaluations, paint("good"), paint("veilgood"), "with the fix")
    elif curves["base_train"]:
        train = np.nanmedian(_array(curves["base_train"]), axis=0)
        x = (np.arange(len(train)) + 1) / evaluations
        data.append(
            line(
                words.rounded(x),
                words.rounded(train),
                paint("muted"),
                name="training",
                line={"width": 1},
            )
        )
    setting = content["setting"]
    ticks = log_ticks(np.concatenate([base.ravel(), fixed.ravel()]))
    x_axis, y_axis = axis("Epoch"), axis("Loss", **ticks)
    if "curve" in setting:
        unit = words.plain(setting["unit"])
        x_axis = axis(unit[0].upper() + unit[1:])
        name = words.plain(setting["curve"])
        y_axis = axis(name, **(ticks if setting["relative"] else {}))
    layout = {"xaxis": x_axis, "yaxis": y_axis}
    return Figure("before-after", data, layout, 400)


def _band(
    curves: np.ndarray, evaluations: int, color: Color, veil: Color, name: str
) -> list[dict[str, Any]]:
    x = words.rounded((np.arange(curves.shape[1]) + 1) / evaluations)
    low, middle, high = (
        words.rounded(c) for c in (curves.min(0), np.median(curves, 0), curves.max(0))
    )
    thin = {"width": 0}
    return [
        line(x, high, color, line=thin, showlegend=False, hoverinfo="skip"),
        line(x, low, color, line=thin, showlegend=False, hoverinfo="skip")
        | {"fill": "tonexty", "fillcolor": veil},
        line(x, middle, color, name=name),
    ]


def cures(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Cures from the calmest; what trains nothing or only faster is no cure."""
    name = _rate_name(content)
    mine = [
        r
        for r in content["remedies"]
        if not (
            r["family"] == "learning rate" and not 0 < r["settings"][name] < content["base"][name]
        )
    ]
    return sorted(mine, key=lambda r: r["fluctuation_ratio"])


def _rate_name(content: dict[str, Any]) -> str:
    """What the learning rate is called in the configuration."""
    return content["setting"].get("rate") or "learning_rate"


def forest(content: dict[str, Any]) -> Figure | None:
    """Ratio of fluctuation and of best loss, with intervals, one row per cure."""
    rows = cures(content)[::-1]
    if not rows:
        return None
    names = [r["name"] for r in rows]
    data = []
    for key, title, side in (("fluctuation", "fluctuation", ""), ("loss", "best loss", "2")):
        values = [_clipped(r[f"{key}_ratio"]) for r in rows]
        bounds = [[_clipped(v) for v in r[f"{key}_interval"]] for r in rows]
        colors = [paint("good") if r["accepted"] else paint("muted") for r in rows]
        trace = points(
            words.rounded(values),
            names,
            paint("accent"),
            name=title,
            showlegend=False,
            marker={"color": colors, "size": 8, "symbol": "square" if side else "circle"},
            xaxis=f"x{side}",
            hovertemplate=words.hover("%{y}: %{x:.3g}", title),
        )
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": words.rounded([b[1] - v for b, v in zip(bounds, values, strict=True)]),
            "arrayminus": words.rounded([v - b[0] for b, v in zip(bounds, values, strict=True)]),
            "color": paint("faint"),
            "thickness": 1.5,
            "width": 0,
        }
        data.append(trace)
    losses = [_clipped(value) for r in rows for value in r["loss_interval"]]
    one = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1}
    look = {"line": {"color": paint("soft"), "width": 1, "dash": "dot"}}
    layout = {
        "xaxis": axis("Fluctuation ratio", type="log", domain=[0.0, 0.48], dtick=1),
        "xaxis2": second_axis("Best loss ratio", domain=[0.54, 1.0], **log_ticks(losses)),
        "yaxis": {"automargin": True, "ticks": "", "gridcolor": paint("grid"), "type": "category"},
        "shapes": [{**one, **look, "xref": f"x{side}"} for side in ("", "2")],
        "showlegend": False,
    }
    return Figure("forest", data, layout, 110 + 22 * len(rows))


def ladder(content: dict[str, Any]) -> Figure | None:
    """Fluctuation and best loss by learning rate, and where training fails; None without any."""
    name, before = _rate_name(content), content["fluctuation"]["before"]
    rungs = [
        (r["settings"][name], r["fluctuation"], r["loss_ratio"])
        for r in content["remedies"]
        if r["family"] == "learning rate" and r["settings"][name] > 0
    ]
    if not rungs:
        return None
    rate = content["base"][name]
    rungs = sorted([*rungs, (rate, before, 1.0)])
    x = words.rounded([r[0] for r in rungs])
    spread = words.rounded([max(r[1], 1e-6) for r in rungs])
    loss = words.rounded([_clipped(r[2]) for r in rungs])
    both = {"mode": "lines+markers"}
    data = [
        line(x, spread, paint("accent"), name="fluctuation") | both,
        line(x, loss, paint("second"), name="best loss over the base's", yaxis="y2") | both,
    ]
    marks = [_mark(rate, "given", paint("soft"))]
    edge = content["evidence"].get("divergence_factor")
    if edge:
        marks.append(_mark(rate * edge, "fails", paint("bad")))
    layout = {
        "xaxis": axis("Learning rate", type="log", exponentformat="power", dtick=1),
        "yaxis": axis("Fluctuation", type="log", tickformat=".1~%", dtick=1),
        "yaxis2": second_axis(
            "Best loss ratio", overlaying="y", side="right", showgrid=False, **log_ticks(loss)
        ),
        "margin": {"r": 60},
        "shapes": [shape for shape, _ in marks],
        "annotations": [note for _, note in marks],
    }
    return Figure("ladder", data, layout, 380)


def norms(content: dict[str, Any]) -> Figure:
    """How many updates had which gradient norm."""
    found = content["gradient_norms"]
    edges = np.asarray(found["edges"], np.float64)
    bars = {
        "type": "bar",
        "x": words.rounded(np.sqrt(edges[1:] * edges[:-1])),
        "y": found["counts"],
        "width": words.rounded(np.diff(edges) * 0.92),
        "marker": {"color": paint("accent")},
        "hovertemplate": words.hover("%{y} updates near %{x:.3g}"),
    }
    quantiles = [(found["median"], "median"), (found["high"], "90 %")]
    marks = [_mark(value, name, paint("soft")) for value, name in quantiles if value > 0]
    layout = {
        "xaxis": axis("Gradient norm", **log_ticks()),
        "yaxis": axis("Updates", type="log", dtick=1),
        "margin": {"t": 24},
        "shapes": [shape for shape, _ in marks],
        "annotations": [note for _, note in marks],
        "showlegend": False,
    }
    return Figure("norms", [bars], layout, 380)


def _mark(x: float, text: str, color: Color) -> tuple[dict[str, Any], dict[str, Any]]:
    """A vertical line on a logarithmic axis, and its label."""
    where = float(f"{x:.5g}")
    shape = {"type": "line", "x0": where, "x1": where, "yref": "paper", "y0": 0, "y1": 1}
    look = {"line": {"color": color, "width": 1.5, "dash": "dash"}}
    note = {"x": math.log10(max(x, 1e-30)), "y": 1.0, "yref": "paper", "yanchor": "bottom"}
    text_look = {"text": text, "showarrow": False, "font": {"color": color, "size": 12}}
    return {**shape, **look}, {**note, **text_look}


def _array(curves: list[list[float | None]]) -> np.ndarray:
    return np.asarray([[np.nan if v is None else v for v in c] for c in curves], np.float64)


def _clipped(ratio: float) -> float:
    return min(max(ratio, 1e-4), 1e4)
