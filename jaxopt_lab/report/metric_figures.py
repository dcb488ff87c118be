"""Charts of the metrics of any problem: a curve for each of the best trials."""

import math
from typing import Any

import numpy as np

from jaxopt_lab.report.contents import MAX_BEST, Contents
from jaxopt_lab.report.figures import Figure, axis, line, log_ticks, paint
from jaxopt_lab.report.result_figures import thinned

#: Metrics drawn at most, the objective among them.
MAX_METRICS = 12
#: An axis is logarithmic from this ratio of its largest to its smallest value on.
_LOG_RATIO = 30.0


def metric_curves(contents: Contents) -> dict[str, Figure]:
    """Metric -> chart: the best trials on their first split or seed, all of the winner's in front.

    The objective comes first. Metrics that have a single value are left out.
    """
    names = dict.fromkeys(n for curves in contents.members.values() for n in curves)
    ranked = sorted(names, key=lambda name: name != contents.metric)
    found: dict[str, Figure] = {}
    for name in ranked:
        figure = _figure(contents, name, f"metric-{len(found)}")
        if figure is not None and len(found) < MAX_METRICS:
            found[name] = figure
    return found


def _figure(contents: Contents, name: str, key: str) -> Figure | None:
    members = {m: c[name] for m, c in contents.members.items() if len(c.get(name, ())) > 1}
    if not members:
        return None
    num_members = int(contents.settings.get("num_folds", 1))
    others = [(t, f) for t, f in members if t != contents.winner and f == 0][:MAX_BEST]
    mine = [(t, f) for t, f in members if t == contents.winner and f < num_members]
    data = [_curve(members[m], m, paint("accent"), 1.3, 0.5) for m in reversed(others)]
    data += [_curve(members[m], m, paint("good"), 2.4, 1.0) for m in reversed(mine)]
    unit = contents.unit.capitalize() if int(contents.settings.get("budget", 0)) > 1 else "Index"
    values = np.concatenate([np.asarray(members[m], np.float64) for m in (*others, *mine)])
    layout = {
        "xaxis": axis(unit),
        "yaxis": axis(name, **(log_ticks(values) if _is_wide(values) else {})),
        "showlegend": False,
    }
    return Figure(key, data, layout, 300)


def _curve(
    values: np.ndarray, member: tuple[int, int], color: Any, width: float, opacity: float
) -> dict[str, Any]:
    x, y = thinned(np.asarray(values, np.float64))
    name = f"trial {member[0]}" + (f", run {member[1] + 1}" if member[1] else "")
    style = {"width": width}
    return line(x, y, color, name=name, line=style, opacity=opacity, hoverinfo="name+x+y")


def _is_wide(values: np.ndarray) -> bool:
    known = values[np.isfinite(values)]
    if not len(known) or known.min() <= 0:
        return False
    return math.log(known.max()) - math.log(known.min()) > math.log(_LOG_RATIO)
