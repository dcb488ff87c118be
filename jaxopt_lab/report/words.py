"""Names, numbers and text as the page writes them; all of its HTML is made here.

A study may come from somebody else, so every string is text until `html` or `plain` has escaped it.
What they return is `Markup`, which escapes whatever else is added to it; a string that somebody
forgets to pass through them is shown, tags and all, instead of obeyed.
"""

import math
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

#: Metrics as a reader knows them; lower is better unless listed in `HIGHER`.
METRICS = {
    "log_rmse": "log-RMSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "log_mae": "log-MAE",
    "huber": "Huber error",
    "log_huber": "log-Huber error",
    "pinball": "pinball loss",
    "log_pinball": "log-pinball loss",
    "share_below": "share below",
    "scaled_rmse": "scaled RMSE",
    "scaled_mae": "scaled MAE",
    "scaled_huber": "scaled Huber error",
    "scaled_pinball": "scaled pinball loss",
    "r2": "R²",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
}
HIGHER = {"r2", "accuracy", "macro_f1"}
#: Neither more nor less of these is better.
UNRANKED = {"share_below"}
UNITS = {
    **dict.fromkeys(("log_rmse", "log_mae", "log_huber", "log_pinball"), "natural log"),
    "log_loss": "nats",
}
#: Losses of networks, as axes name them.
LOSSES = {
    "squared": "squared error",
    "absolute": "absolute error",
    "huber": "Huber's",
    "quantile": "pinball",
}
MODELS = {
    "single": "Tuned network",
    "ensemble": "Ensemble",
    "mean": "Mean",
    "median": "Median",
    "quantile": "Quantile of all rows",
    "majority": "Majority class",
    "ridge": "Ridge regression",
    "kernel_regression": "Kernel regression",
    "logistic_regression": "Logistic regression",
    "hist_gradient_boosting": "Gradient boosting",
    "lightgbm": "LightGBM",
    "untuned_mlp": "Untuned MLP",
}
PHASES = {
    "search": "search",
    "wide": "wide search",
    "refined": "refined search",
    "rerun": "reruns with other seeds",
    "members": "the winner with members",
    "refit": "refit",
}


def metric(name: str) -> str:
    """A metric's name."""
    return METRICS.get(name, name)


def better(sign: int) -> str:
    """Which values of an objective are better."""
    return "lower is better" if sign > 0 else "higher is better"


def model(name: str) -> str:
    """A model's name."""
    return MODELS.get(name, name.replace("_", " "))


def phase(name: str) -> str:
    """A phase's name."""
    return PHASES.get(name, name)


def title(name: str) -> str:
    """A hyperparameter's name as words."""
    return name.replace("_", " ")


def number(value: Any, digits: int = 4) -> str:
    """A number for people; a dash for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        if isinstance(value, float) and math.isinf(value):
            return "off" if value > 0 else "−∞"
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 10**digits and abs(value) < 1e15):
        return f"{round(value):,}"
    text = f"{value:.{digits}g}"
    return text.replace("-", "−") if "e" not in text else text.replace("e-0", "e-")


def seconds(value: float) -> str:
    """A duration."""
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)}:{int(value % 60):02d} min"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def plain(text: Any) -> Markup:
    """Text for HTML, and for Plotly, which reads tags too; `Markup` stays as it is."""
    return text if isinstance(text, Markup) else escape(str(text))


def html(template: str, *parts: Any) -> Markup:
    """HTML of our own with other people's text in it.

    Args:
      template: with `{}` for each part.
      *parts: text, which is escaped, or `Markup`.

    Examples:
      >>> html("<b>{}</b>", "a < b")
      Markup('<b>a &lt; b</b>')
    """
    return Markup(template).format(*parts)


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """One after the other; what is not `Markup` is escaped."""
    return Markup(between).join(parts)


def hover(template: str, name: str = "") -> Markup:
    """What Plotly shows over a point.

    Args:
      template: our own, with tags and `%{x}`.
      name: text in a box beside it; nothing in it is a template or a tag.
    """
    inside = plain(name).replace("{", Markup("&#123;"))
    return Markup(template) + html("<extra>{}</extra>", inside)


def rounded(values: Any, digits: int = 5) -> list[Any]:
    """Numbers with few digits, None where not finite: JSON without waste."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in map(float, values)]
