"""The whole analysis as plain JSON, for `best.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_lab.analysis.boundaries import boundary_findings
from jaxopt_lab.analysis.buckets import infeasible_by_region
from jaxopt_lab.analysis.budget import best_of_k
from jaxopt_lab.analysis.importance import anova
from jaxopt_lab.spaces.space import SearchSpace


def summary(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    seed: int = 0,
) -> dict[str, Any]:
    """Importance, findings, regions with infeasible trials, and the verdict on the budget.

    Args:
      space: the space that the trials were drawn from.
      configs: n configurations of trials that finished or diverged.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.
      seed: of forest and bootstrap.

    Returns:
      Plain JSON: no NaN, no arrays.
    """
    found = anova(space, configs, scores, infeasible, seed)
    budget = best_of_k(scores, infeasible, seed)
    regions = [b for b in infeasible_by_region(space, configs, infeasible) if b.num_infeasible]
    return {
        "importance": {name: round(share, 4) for name, share in found.shares.items()},
        "interactions": round(found.interactions, 4),
        "findings": [
            {
                "name": f.name,
                "side": f.side,
                "kind": f.kind,
                "text": f.text,
                "suggested": f.suggested,
            }
            for f in boundary_findings(space, configs, scores, infeasible)
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
        "budget": budget.verdict,
    }
