"""When a rate is near the one at which training fails, and what of that a small batch explains.

Near that edge each update overshoots: at three times the rate training fails or ends much worse, at
a lower one it is calm. The best checkpoint need not tell: a curve that shakes has low points, and
a much lower rate has not come as far in as many epochs. Noise of a small batch shakes as well, but
does not bring a rate near the edge: a larger batch then bears the rate that goes with it.

Where practice knows what rates an optimizer bears, one beyond them is judged likewise, wherever its
edge is: of all that would calm its curve, the rate is what nobody would have set so.
"""

import math
from collections.abc import Iterable
from typing import Protocol

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.thresholds import HARMLESS, STOPPED, THRESHOLDS
from jaxopt_lab.stabilization.weighing import Conditions

#: The highest rates of practice: ten times the defaults of Keras; of lion a tenth of those
#: (Chen et al. 2023, arXiv:2302.06675). Those of plain and momentum SGD depend on the problem.
USUAL_RATES = {"adam": 1e-2, "adamw": 1e-2, "rmsprop": 1e-2, "lion": 1e-3}
#: A rate so many times higher is beyond the edge, if training fails there.
_NEAR = 3.0


class OfEdge(Protocol):
    """The numbers that it rests on: see `diagnose.Evidence`; NaN where nobody knows."""

    @property
    def rate_edge(self) -> float: ...
    @property
    def divergence_factor(self) -> float: ...
    @property
    def edge_calms(self) -> float: ...
    @property
    def batch_rate(self) -> float: ...
    @property
    def rate_calms(self) -> float: ...
    @property
    def over_usual(self) -> float: ...


def over_usual(rate: float, optimizer: str) -> float:
    """A rate over the highest of practice with its optimizer; NaN where there is none."""
    return rate / USUAL_RATES.get(optimizer, math.nan)


def edge_calms(lower: Iterable[Remedy]) -> float:
    """Base fluctuation over that at the calmest lower rate that is calmer for certain, ends no
    higher and has not stopped learning; 1 where there is none.
    """
    found = [
        1.0 / max(r.fluctuation.value, 1e-6)
        for r in lower
        if r.fluctuation.high < 1.0 and r.final.value <= HARMLESS and r.loss.value <= STOPPED
    ]
    return max(found, default=1.0)


def batch_rate(batches: Iterable[Remedy], rate: str) -> float:
    """Best loss over the base's of the larger batch that bears the rate which goes with it best;
    NaN where none was tried.

    Args:
      batches: with larger batches.
      rate: hyperparameter that is the learning rate.
    """
    return min((r.loss.value for r in batches if rate in r.settings), default=math.nan)


def conditions(found: OfEdge) -> Conditions:
    """Of a rate near the edge, or beyond practice."""
    t = THRESHOLDS
    if not _is_near_edge(found) and found.over_usual > 1.0:
        return {
            "rate_calms": (found.rate_calms, t["rate_calms"]),
            "over_usual": (found.over_usual, 1.0),
        }
    return {
        "edge_calms": (found.edge_calms, t["edge_calms"]),
        "rate_edge": (_edge(found), t["rate_edge"]),
    }


def does_not_fail(found: OfEdge) -> float:
    """Below 1 of a rate near the edge, or beyond practice; NaN of any other, of which it says
    nothing.
    """
    if _is_near_edge(found):
        return THRESHOLDS["rate_edge"] / _edge(found)
    return 1.0 / found.over_usual if is_near(found) else math.nan


def is_near(found: OfEdge) -> bool:
    """Whether a rate is near the edge, and no small batch brings it there, or beyond practice and
    a lower one is calmer and loses nothing.
    """
    calms = found.rate_calms >= THRESHOLDS["rate_calms"]
    return _is_near_edge(found) or (found.over_usual > 1.0 and calms)


def _is_near_edge(found: OfEdge) -> bool:
    t = THRESHOLDS
    mine = (found.edge_calms, t["edge_calms"]), (_edge(found), t["rate_edge"])
    near = all(value >= least for value, least in mine)
    return near and not found.batch_rate <= t["batch_rate"]


def _edge(found: OfEdge) -> float:
    """Best loss at three times the rate over the base's, or what counts for that where it fails."""
    if found.divergence_factor <= _NEAR:
        return max(0.0 if math.isnan(found.rate_edge) else found.rate_edge, _NEAR)
    return found.rate_edge
