"""When a rate is near the one at which training fails, and what of that a small batch explains.

Near that edge each update overshoots: at three times the rate training fails or ends much worse, at
a lower one it is calm. The best checkpoint need not tell: a curve that shakes has low points, and
a much lower rate has not come as far in as many epochs. Noise of a small batch shakes as well, but
does not bring a rate near the edge: a larger batch then bears the rate that goes with it.
"""

import math
from collections.abc import Iterable
from typing import Protocol

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.thresholds import HARMLESS, STOPPED, THRESHOLDS
from jaxopt_lab.stabilization.weighing import Conditions

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
    """Of a rate near the edge."""
    return {
        "edge_calms": (found.edge_calms, THRESHOLDS["edge_calms"]),
        "rate_edge": (_edge(found), THRESHOLDS["rate_edge"]),
    }


def does_not_fail(found: OfEdge) -> float:
    """Below 1 of a rate near the edge; NaN of any other, of which it says nothing."""
    return THRESHOLDS["rate_edge"] / _edge(found) if is_near(found) else math.nan


def is_near(found: OfEdge) -> bool:
    """Whether a rate is near the edge, and no small batch brings it there."""
    mine = conditions(found)
    known = not any(math.isnan(value) for value, _ in mine.values())
    near = known and all(value >= least for value, least in mine.values())
    return near and not found.batch_rate <= THRESHOLDS["batch_rate"]


def _edge(found: OfEdge) -> float:
    """Best loss at three times the rate over the base's, or what counts for that where it fails."""
    if found.divergence_factor <= _NEAR:
        return max(0.0 if math.isnan(found.rate_edge) else found.rate_edge, _NEAR)
    return found.rate_edge
