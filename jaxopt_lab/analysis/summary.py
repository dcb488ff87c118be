"""The whole analysis as plain JSON, for `best.json`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_lab.analysis.boundaries import Finding, boundary_findings
from jaxopt_lab.analysis.buckets import infeasible_by_region
from jaxopt_lab.analysis.budget import best_of_k
from jaxopt_lab.analysis.curve_findings import curve_findings, rate_finding, rate_in, readable
from jaxopt_lab.analysis.importance import anova
from jaxopt_lab.analysis.learned import Learned
from jaxopt_lab.spaces.space import SearchSpace


def summary(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    seed: int = 0,
    first: Any = None,
    trained: Sequence[Learned] = (),
    unit: str = "epoch",
) -> dict[str, Any]:
    """Importance, findings, regions with infeasible trials, curves, the verdict on the budget.

    Importance and regions are those of all trials. Findings and the verdict take trials that were
    drawn alike, those of the first phase: later ones were sent to where the best were.

    Args:
      space: the space that the trials were drawn from.
      configs: n configurations of trials that finished or diverged.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.
      seed: of the forest.
      first: n booleans, whether a trial is of the first phase; None for all.
      trained: curves of the trials that trained to the end, best first.
      unit: of their budget.

    Returns:
      Plain JSON: no NaN, no arrays.
    """
    found = anova(space, configs, scores, infeasible, seed)
    drawn = np.ones(len(configs), bool) if first is None else np.array(first, bool)
    known = np.array([math.nan if s is None else s for s in scores], np.float64)[drawn]
    bad = np.array(infeasible, bool).reshape(-1)[drawn]
    early = [config for config, is_first in zip(configs, drawn, strict=True) if is_first]
    budget = best_of_k(known, bad)
    findings = boundary_findings(space, early, known, bad)
    regions = [b for b in infeasible_by_region(space, configs, infeasible) if b.num_infeasible]
    return {
        "importance": {name: round(share, 4) for name, share in found.shares.items()},
        "interactions": round(found.interactions, 4),
        "fit": round(found.fit, 4) if math.isfinite(found.fit) else None,
        "findings": [
            {
                "name": f.name,
                "side": f.side,
                "kind": f.kind,
                "text": f.text,
                "suggested": f.suggested,
            }
            for f in findings
        ],
        "infeasible_by_region": [
            {
                "name": b.name,
                "region": b.label,
                "trials": b.num_trials,
                "infeasible": b.num_infeasible,
            }
            for b in regions
        ],
        "budget": budget.verdict + _but(findings),
        "curves": {
            "trials": len(readable(trained)),
            "findings": [
                found._asdict()
                for found in (
                    *curve_findings(trained, unit),
                    *rate_finding(rate_in(space.names), configs, scores, infeasible, findings),
                )
            ],
        },
    }


def _but(findings: Sequence[Finding]) -> str:
    """More trials are no help against ranges that end too early."""
    narrow = list(dict.fromkeys(f.name for f in findings if f.kind == "narrow"))
    if not narrow:
        return ""
    return f" Before more trials, widen what is too narrow: {', '.join(narrow)}."
