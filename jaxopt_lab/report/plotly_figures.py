"""The page's charts as Plotly's own figures, for notebooks: in the light theme's colours."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jaxopt_lab.report.figures import Figure, inert

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Colours along the scale from the worst to the best trial, and of folds.
_SCALE, _FOLDS = 12, ("accent", "second", "good", "bad", "muted", "faint")
#: Side by side: charts in a row, the part of the width between two, and pixels of a row.
_COLUMNS, _GAP, _ROW = 3, 0.08, 280


@cache
def palette() -> dict[str, str]:
    """Colours by name, from the page's style sheet."""
    text = resources.files("jaxopt_lab.report").joinpath("style.css").read_text(encoding="utf-8")
    light = text[: text.index("}")]
    found = {name: value.strip() for name, value in re.findall(r"--(\w+): ([^;]+);", light)}
    for i in range(_SCALE):
        found[f"scale{i}"] = _mixed(found["scalelow"], found["scalehigh"], i / (_SCALE - 1))
    return {**found, **{f"fold{i}": found[name] for i, name in enumerate(_FOLDS)}}


def _mixed(first: str, second: str, share: float) -> str:
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return f"rgb({','.join(str(round(a + (b - a) * share)) for a, b in pairs)})"


def to_plotly(figure: Figure, texts: Mapping[str, str] | None = None) -> "go.Figure":
    """A chart as a figure of Plotly's.

    Args:
      figure: of the page.
      texts: what is shown over a trial, by its number; escaped.
    """
    return _made([_painted(figure.to_json(), _escaped(texts))])


def side_by_side(figures: Sequence[Figure], texts: Mapping[str, str] | None = None) -> "go.Figure":
    """Charts with an x and a y axis each as one figure.

    Args:
      figures: of the page, at least one.
      texts: what is shown over a trial, by its number; escaped.
    """
    return _made([_painted(figure.to_json(), _escaped(texts)) for figure in figures])


def _escaped(texts: Mapping[str, str] | None) -> dict[str, str]:
    found: dict[str, str] = inert(dict(texts or {}))
    return found


def _painted(value: Any, texts: Mapping[str, str]) -> Any:
    """Colours and texts in the place of what stands for them; see `figures.inert`."""
    if isinstance(value, list):
        return [_painted(item, texts) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"@"}:
            return palette()[value["@"]]
        if value.keys() == {"#"}:
            return texts.get(value["#"], "")
        return {key: _painted(item, texts) for key, item in value.items()}
    return value


def _made(charts: list[dict[str, Any]]) -> "go.Figure":
    import plotly.graph_objects as go

    if len(charts) == 1:
        layout = {**charts[0]["layout"], "height": charts[0]["height"]}
        return go.Figure(charts[0]["data"], {**layout, "template": _template()})
    data: list[dict[str, Any]] = []
    columns = min(_COLUMNS, len(charts))
    rows = -(-len(charts) // columns)
    layout = {"showlegend": False, "height": _ROW * rows, "template": _template()}
    for i, chart in enumerate(charts):
        name = "" if i == 0 else str(i + 1)
        data += [{**t, "xaxis": f"x{name}", "yaxis": f"y{name}"} for t in chart["data"]]
        row, column = divmod(i, columns)
        across, up = _part(column, columns, _GAP), _part(rows - 1 - row, rows, 2 * _GAP)
        layout[f"xaxis{name}"] = {
            **chart["layout"]["xaxis"],
            "domain": across,
            "anchor": f"y{name}",
        }
        layout[f"yaxis{name}"] = {**chart["layout"]["yaxis"], "domain": up, "anchor": f"x{name}"}
    return go.Figure(data, layout)


def _part(index: int, number: int, gap: float) -> list[float]:
    """The ends of one of several equal parts of [0, 1] with gaps between them."""
    length = (1 - gap * (number - 1)) / number
    return [index * (length + gap), min(1.0, index * (length + gap) + length)]


def _template() -> dict[str, Any]:
    """The look of the page."""
    colors = palette()
    soft = {"color": colors["soft"]}
    axis = {
        "gridcolor": colors["grid"],
        "linecolor": colors["line"],
        "zeroline": False,
        "automargin": True,
        "tickfont": {**soft, "size": 12},
        "title": {"font": {**soft, "size": 13}, "standoff": 10},
    }
    layout = {
        "paper_bgcolor": colors["card"],
        "plot_bgcolor": colors["card"],
        "font": {"color": colors["ink"], "size": 13},
        "margin": {"l": 60, "r": 14, "t": 24, "b": 48},
        "hovermode": "closest",
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {"bgcolor": colors["card"], "align": "left"},
    }
    return {"layout": layout}
