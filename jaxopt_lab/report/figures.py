"""Building blocks of the charts: plain JSON for Plotly, colours by name.

A colour is a `Color`, the text over a trial a `Hover`: the page puts in the colour of the theme,
light or dark, and the text, which it holds once. Every other string is text, whatever it says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxopt_lab.report import words
from jaxopt_lab.spaces.distributions import Choice, Distribution, LogUniform

#: Numbers that are seen on a logarithmic axis, at least.
_FEWEST_TICKS = 3


@dataclass(frozen=True)
class Color:
    """A colour of the theme, by its name in the style sheet."""

    name: str


@dataclass(frozen=True)
class Hover:
    """The text over a trial."""

    trial_id: int


def paint(name: str) -> Color:
    """A colour by name."""
    return Color(name)


#: The same model has the same colour everywhere.
MODEL_COLORS = {"ensemble": paint("good"), "single": paint("accent")}


@dataclass(frozen=True)
class Figure:
    """One chart.

    Attributes:
      name: unique on the page; the id of its element is `plot-` and the name.
      data: Plotly traces.
      layout: Plotly layout, without the theme.
      height: in pixels.
    """

    name: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340

    def to_json(self) -> dict[str, Any]:
        """What the page's script reads; all text in it is escaped."""
        content = {"data": self.data, "layout": self.layout, "height": self.height}
        return {key: inert(value) for key, value in content.items()}


def inert(value: Any) -> Any:
    """Plain JSON for the page's script.

    Colours and texts over trials become objects of one key, which no text can be; other strings are
    escaped unless they are `Markup`; what is not finite becomes null.
    """
    if isinstance(value, Color):
        return {"@": value.name}
    if isinstance(value, Hover):
        return {"#": str(value.trial_id)}
    if isinstance(value, str):
        return str(words.plain(value))
    if isinstance(value, Mapping):
        return {str(key): inert(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [inert(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    number = value.item() if isinstance(value, np.generic) else value
    if not isinstance(number, int | float):
        raise TypeError(f"a figure holds text, numbers, lists and tables, got {type(value)}")
    return number if math.isfinite(number) else None


def axis(title: str, **options: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, **options}


def log_ticks(shown: Any = ()) -> dict[str, Any]:
    """A logarithmic axis with numbers at 1, 2 and 5 of each decade; Plotly by itself says "2" for
    0.2. Where fewer than three of them would be seen, at round numbers in equal steps.

    Args:
      shown: what the axis spans, an array; those that are not finite and above 0 do not count.
    """
    ticks = [float(f"{m}e{e}") for e in range(-6, 7) for m in (1, 2, 5)]
    values = np.asarray(shown, np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if values.size:
        low, high = float(values.min()), float(values.max())
        if sum(low <= tick <= high for tick in ticks) < _FEWEST_TICKS:
            ticks = _equal_steps(low, high)
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{value:g}" for value in ticks]}


def _equal_steps(low: float, high: float) -> list[float]:
    """Round numbers from below the least of two numbers above 0 to above the greatest."""
    wanted = max(high - low, 0.05 * high) / 4
    decade = 10.0 ** math.floor(math.log10(wanted))
    step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= 0.999 * wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{number * step:.6g}") for number in range(max(first, 1), last + 1)]


def points(x: Sequence[Any], y: Sequence[Any], color: Color, **options: Any) -> dict[str, Any]:
    """A scatter trace of markers."""
    marker = {"color": color, "size": 7, **options.pop("marker", {})}
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "marker": marker, **options}


def line(x: Sequence[Any], y: Sequence[Any], color: Color, **options: Any) -> dict[str, Any]:
    """A scatter trace of lines."""
    style = {"color": color, "width": 2, **options.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": style, **options}


def value_axis(name: str, dist: Distribution) -> dict[str, Any]:
    """The axis of a hyperparameter: logarithmic for a log range, named ticks for a choice."""
    found = axis(words.title(name))
    if isinstance(dist, Choice):
        labels = [words.number(v, 6) for v in dist.ranked]
        return {
            **found,
            "tickvals": list(range(len(labels))),
            "ticktext": labels,
            "range": [-0.6, len(labels) - 0.4],
        }
    low, high = dist.extremes
    if isinstance(dist, LogUniform) or type(dist).__name__ == "LogIntUniform":
        ends = [math.log10(low), math.log10(high)]
        pad = 0.04 * (ends[1] - ends[0])
        ends = [ends[0] - pad, ends[1] + pad]
        return {
            **found,
            "type": "log",
            "exponentformat": "power",
            "range": ends,
            "dtick": 1 if ends[1] - ends[0] > 1.5 else "D2",
        }
    pad = 0.4 if isinstance(low, int) and high - low <= 8 else 0.04 * (high - low)
    step = {"dtick": 1} if isinstance(low, int) and high - low <= 8 else {}
    return {**found, "range": [low - pad, high + pad], **step}


def place(dist: Distribution, value: Any) -> Any:
    """Where a value stands on its axis; None if a choice does not have it."""
    if isinstance(dist, Choice):
        return dist.ranked.index(value) if value in dist.values else None
    return float(f"{value:.5g}")


def score_window(scores: np.ndarray) -> tuple[float, float]:
    """Ends of a score axis that shows the good trials well; worse ones lie at its top."""
    known = np.clip(scores[np.isfinite(scores)], -1e300, 1e300)
    if not len(known):
        return 0.0, 1.0
    best, median = float(known.min()), float(np.median(known))
    worst = float(known.max())
    least = max(1e-3 * abs(best), 1e-12)
    top = min(worst, best + max(3.0 * (median - best), least))
    # Of one score, or equal ones, the axis still has a length.
    pad = 0.06 * (top - best) if top > best + 1e-3 * least else least
    return best - pad, top + pad


def label(trial: Mapping[str, Any]) -> Hover:
    """Stands for the text over a trial, which the page holds once: see `describe`."""
    return Hover(trial["trial_id"])


def describe(trial: Mapping[str, Any], metric: str, sign: int = 1) -> Markup:
    """The text over a trial: number, phase, score or what went wrong, hyperparameters.

    Args:
      trial: as a store has it.
      metric: name of the score.
      sign: -1 where it is maximised.
    """
    score = words.number(None if trial["score"] is None else sign * trial["score"])
    lines = [
        words.html("<b>trial {}</b> ({})", trial["trial_id"], words.phase(trial["phase"])),
        f"{metric} {score}" if trial["score"] is not None else str(trial["status"]),
        *([trial["reason"]] if trial["reason"] else []),
        *(f"{words.title(k)} {words.number(v, 3)}" for k, v in trial["config"].items()),
    ]
    return words.joined(lines, "<br>")


def marker_size(num: int) -> int:
    """Smaller points where there are many."""
    return 7 if num <= 150 else 5 if num <= 500 else 4
